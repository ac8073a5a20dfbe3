// http_node.js PORT BODY: the same small answer by Node's http.
const http = require('node:http');

const [port, body] = process.argv.slice(2);
const head = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) };
http.createServer((request, response) => response.writeHead(200, head).end(body)).listen(port, '127.0.0.1');
