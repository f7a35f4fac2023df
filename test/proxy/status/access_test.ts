import assert from "node:assert/strict";
import { refusal } from "../../../proxy/status/access.ts";

const table: readonly [Record<string, string>, boolean][] = [
  [{ Host: "127.0.0.1:10249" }, true],
  [{ Host: "localhost:8080" }, true],
  [{ Host: "LOCALHOST" }, true],
  [{ Host: "[::1]:10249" }, true],
  [{ Host: "192.0.2.7:10249" }, true],
  [{ Host: "127.0.0.1:10249", Origin: "http://127.0.0.1:10249" }, true],
  [{}, false],
  [{ Host: "" }, false],
  [{ Host: "rebound.example:10249" }, false],
  [{ Host: "localhost.example" }, false],
  [{ Host: "127.0.0.1.example" }, false],
  [{ Host: "127.0.0.1:10249:80" }, false],
  [{ Host: "user@127.0.0.1" }, false],
  [{ Host: "127.0.0.1:10249", Origin: "http://127.0.0.1:80" }, false],
  [{ Host: "127.0.0.1:10249", Origin: "https://127.0.0.1:10249" }, false],
  [{ Host: "127.0.0.1:10249", Origin: "null" }, false],
  [{ Host: "127.0.0.1:10249", Origin: "http://evil.example" }, false],
];

for (const [headers, isAllowed] of table) {
  Deno.test(`refusal() ${isAllowed ? "lets in" : "keeps out"} ${JSON.stringify(headers)}`, () => {
    assert.equal(refusal(new Headers(headers)) === undefined, isAllowed);
  });
}
