// http_go PORT BODY: the same small answer by net/http.
package main

import (
	"log"
	"net/http"
	"os"
)

func main() {
	body := []byte(os.Args[2])
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
