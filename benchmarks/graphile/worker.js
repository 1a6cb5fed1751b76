// One worker process of graphile-worker with its fastest preset. Arguments: dsn [--schema-only]
const { run, runMigrations } = require("graphile-worker");
const { Pool } = require("pg");

const given = Object.fromEntries(process.argv[2].split(" ").map((word) => word.split("=")));
const connectionString = `postgres://${given.user}@${given.host}:${given.port}/${given.dbname}`;
const rows = new Pool({ connectionString, max: 24 });
const insert = "INSERT INTO bench_row (number) VALUES ($1)";

const taskList = {
  noop: async () => {},
  row: async ({ number }) => { await rows.query(insert, [number]); },
  stamp: async ({ sent }) => {
    const now = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6));
    await rows.query(insert, [String(now - BigInt(sent))]);
  },
};

const preset = {
  worker: {
    connectionString,
    concurrentJobs: 24,
    maxPoolSize: 25,
    localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  },
};

async function main() {
  if (process.argv[3] === "--schema-only") {
    await runMigrations({ preset });
    process.exit(0);
  }
  const runner = await run({ preset, taskList, noHandleSignals: false });
  await runner.promise;
}

main().catch((error) => { console.error(error); process.exit(1); });
