/** The logger that `@std/log` is bound to: one event, one line. */
import { getLogger, type LogEntry, type LogSetup, setup } from "@std/log";
import assert from "node:assert/strict";

async function logged(
  options: Partial<LogSetup>,
  log: (logger: ReturnType<typeof getLogger>) => void,
): Promise<string[]> {
  const lines: string[] = [];
  await setup({
    level: "info",
    format: "text",
    stacks: false,
    write: (line) => lines.push(line),
    ...options,
  });
  log(getLogger("proxy"));
  await setup({ level: "error", format: "text", stacks: false, write() {} });
  return lines;
}

Deno.test("a text line has time, level, module, message and properties", async () => {
  const [line] = await logged(
    {},
    (logger) => logger.info("Ready", { services: 3, address: "10.0.0.1:80" }),
  );
  assert.match(
    line ?? "",
    /^\d{4}-\d\d-\d\dT[\d:.]+Z INFO {2}proxy: Ready services=3 address=10\.0\.0\.1:80\n$/,
  );
});

Deno.test("text from outside cannot forge a line or move the cursor", async () => {
  const lines = await logged(
    {},
    (logger) =>
      logger.warn("Cannot read\nERROR main: forged", {
        name: "a\nERROR main: forged \u001b[2J\u009b\u202e\u{e0001}",
      }),
  );
  assert.equal(lines.length, 1);
  assert.equal(lines[0]?.split("\n").length, 2);
  assert.ok(!/[\p{Cc}\p{Cf}]/u.test((lines[0] ?? "").trimEnd()));
  assert.match(
    lines[0] ?? "",
    /forged \\u001b\[2J\\u009b\\u202e\\udb40\\udc01"/,
  );
});

Deno.test("a message with its stack stays apart from other lines", async () => {
  const [text = ""] = await logged(
    { stacks: true },
    (logger) =>
      logger.error("Failed", { error: new Error("a\nERROR main: \u001b[2J") }),
  );
  assert.match(text, /\n {4}ERROR main: \\u001b\[2J\n/);
  assert.ok(!/[^\P{Cc}\n]/u.test(text));
});

Deno.test("an error is told with its causes, its stack only when asked", async () => {
  const cause = new Error("connection refused");
  const error = new Error("Cannot list services", { cause });
  const [short] = await logged(
    {},
    (logger) => logger.error("Failed", { error }),
  );
  assert.match(
    short ?? "",
    /error="Cannot list services: connection refused"\n$/,
  );
  const [long] = await logged(
    { stacks: true },
    (logger) => logger.error("Failed", { error }),
  );
  assert.match(long ?? "", /log_test\.ts:\d+/);
});

Deno.test("a JSON line is one JSON object", async () => {
  const lines = await logged(
    { format: "json" },
    (logger) =>
      logger.info("Ready", { services: 3, error: new Error("no\nway") }),
  );
  const record = JSON.parse(lines[0] ?? "");
  assert.equal(record.message, "Ready");
  assert.equal(record.properties.services, 3);
  assert.equal(record.properties.error, "no\nway");
  assert.equal((lines[0] ?? "").trimEnd().includes("\n"), false);
});

Deno.test("what is below the level is not written", async () => {
  const lines = await logged({ level: "warn" }, (logger) => {
    logger.debug("one");
    logger.info("two");
    logger.warn("three");
  });
  assert.equal(lines.length, 1);
});

Deno.test("a tap gets everything from info on as data, though less is written", async () => {
  const entries: LogEntry[] = [];
  const lines = await logged(
    { level: "warn", tap: (entry) => entries.push(entry) },
    (logger) => {
      logger.debug("Not this");
      logger.info("Ready", { services: 3, names: ["a"] });
      logger.warn("Cannot dial\nendpoint", {
        cause: new Error("refused", { cause: new Error("by peer") }),
      });
    },
  );
  assert.equal(lines.length, 1);
  assert.deepEqual(
    entries.map(({ time: _, ...rest }) => rest),
    [
      {
        level: "info",
        module: "proxy",
        message: "Ready",
        properties: { services: "3", names: '["a"]' },
      },
      {
        level: "warn",
        module: "proxy",
        message: "Cannot dial\\u000aendpoint",
        properties: { cause: "refused: by peer" },
      },
    ],
  );
});
