// fastify.js PORT BODY: the same small answer by fastify.
const fastify = require('fastify')();

const [port, body] = process.argv.slice(2);
const answer = JSON.parse(body);
fastify.get('/', async () => answer);
fastify.listen({ port: Number(port), host: '127.0.0.1' });
