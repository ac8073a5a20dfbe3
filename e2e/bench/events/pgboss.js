// pgboss.js URL CONNECTIONS BATCH TRANSACTIONAL: jobs "effect" by pg-boss. BATCH 1: one job at a time. CONNECTIONS 0: its schema and queues alone.
// TRANSACTIONAL 1: a job's effects and its completion are one transaction (exactly once); 0: two (at least once).
const { PgBoss } = require('pg-boss');

const [connectionString, connections, batchSize, transactional] = process.argv.slice(2).map((word, i) => (i === 0 ? word : Number(word)));
// As soon as it may, so that what waits is known to it.
const boss = new PgBoss({ connectionString, max: connections || 1, monitorIntervalSeconds: 1, superviseIntervalSeconds: 1, queueCacheIntervalSeconds: 1,
  useListenNotify: true });
boss.on('error', (error) => console.error(error));

const effect = async (jobs, db) => { // one statement for a batch
  await (db ?? boss.getDb()).executeSql('INSERT INTO bench.effect (number) SELECT * FROM unnest($1::bigint[])', [jobs.map((job) => job.data.number)]);
};
const entry = async (jobs, db) => {
  const at = (performance.timeOrigin + performance.now()) / 1000;
  await (db ?? boss.getDb()).executeSql('INSERT INTO bench.entry (number, at) SELECT n, $2 FROM unnest($1::bigint[]) n', [jobs.map((job) => job.data.number), at]);
};
(async () => {
  await boss.start();
  if (connections === 0) {
    for (const name of ['effect', 'entry']) await boss.createQueue(name, { notify: true });
    return boss.stop();
  }
  for (const [name, handler] of Object.entries({ effect, entry })) {
    await boss.work(name, { batchSize, localConcurrency: name === 'effect' ? connections : 1, transactional: transactional === 1, pollingIntervalSeconds: 0.5,
      notifyPollingIntervalSeconds: 0.5, burstWhenReadyExceeds: 1, burstWhenBatchFull: batchSize > 1 }, handler);
  }
})();
