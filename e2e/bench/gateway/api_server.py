"""As much of an API server as cicada-gateway needs: lists that are written down beforehand, watches on which nothing happens."""
import http.server
import json
import pathlib
import threading
import urllib.parse

KUBECONFIG = """apiVersion: v1
kind: Config
current-context: bench
clusters: [{{name: bench, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]
contexts: [{{name: bench, context: {{cluster: bench, user: bench, namespace: cicada-system}}}}]
users: [{{name: bench, user: {{token: unused}}}}]
"""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self) -> None:  # noqa: N802 (the name is the library's)
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        if 'watch' in query:
            self._watch(float(query.get('timeoutSeconds', ['300'])[0]))
        else:
            self._answer({'metadata': {'resourceVersion': '1'}, 'items': self.server.lists.get(url.path, [])})

    def do_PATCH(self) -> None:  # noqa: N802
        """A wake: nothing comes of it."""
        self.rfile.read(int(self.headers.get('Content-Length', 0)))
        self._answer({})

    def _answer(self, tree: object) -> None:
        body = json.dumps(tree).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _watch(self, seconds: float) -> None:
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        self.connection.settimeout(seconds)
        try:
            if self.connection.recv(1) == b'':
                return  # the client went
        except TimeoutError:
            self.wfile.write(b'0\r\n\r\n')
        except OSError:
            pass
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class ApiServer:
    """lists: what a list of a path holds; every other one is empty. Ends with this process."""

    def __init__(self, lists: dict[str, list[dict[str, object]]], kubeconfig: pathlib.Path):
        self._server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self._server.daemon_threads = True
        self._server.lists = lists
        kubeconfig.write_text(KUBECONFIG.format(port=self._server.server_address[1]))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
