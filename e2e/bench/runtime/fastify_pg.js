// fastify_pg.js PORT POOL HOST DATABASE_PORT USER [PASSWORD]: GET /?id=1 answers the item of that key, by fastify and pg.
const fastify = require('fastify')();
const { Pool } = require('pg');

const [port, max, host, databasePort, user, password] = process.argv.slice(2);
const pool = new Pool({ max: Number(max), host, port: Number(databasePort), user, password, database: 'postgres' });
const text = 'SELECT id, name, price_cents, stock FROM bench.items WHERE id = $1';
fastify.get('/', async (request, reply) => {
  const { rows } = await pool.query({ name: 'item', text, values: [request.query.id] }); // named: prepared once
  if (rows.length === 0) return reply.code(404).send({ code: 'unknown_item' });
  return rows[0];
});
fastify.listen({ port: Number(port), host: '127.0.0.1' });
