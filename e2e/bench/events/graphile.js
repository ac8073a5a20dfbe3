// graphile.js URL CONNECTIONS LOCAL_QUEUE: jobs "effect" by graphile-worker. LOCAL_QUEUE 0: one job at a time; else as its page on performance
// sets batches: so many jobs taken at once, and completed together without a delay. CONNECTIONS 0: its schema alone.
// At least once: a job's effects and its completion are transactions of their own.
const { run, runMigrations, Logger } = require('graphile-worker');

const [connectionString, connections, size] = process.argv.slice(2).map((word, i) => (i === 0 ? word : Number(word)));
const logger = new Logger(() => (level, message) => {
  if (level === 'error') console.error(message);
});
const taskList = {
  effect: async ({ number }, helpers) => {
    await helpers.withPgClient((client) =>
      client.query({ name: 'effect', text: 'INSERT INTO bench.effect (number) VALUES ($1)', values: [number] })); // named: prepared once
  },
  entry: async ({ number }, helpers) => {
    const at = (performance.timeOrigin + performance.now()) / 1000;
    await helpers.withPgClient((client) =>
      client.query({ name: 'entry', text: 'INSERT INTO bench.entry (number, at) VALUES ($1, $2)', values: [number, at] }));
  },
};
const batches = size > 0 ? { localQueue: { size }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } : {};
if (connections === 0) runMigrations({ connectionString, logger });
else run({ connectionString, taskList, logger, preset: { worker: { maxPoolSize: connections, concurrentJobs: connections, ...batches } } });
