/**
 * A program for tests: a client that dials once or many times at once, and
 * prints what it gets.
 *
 *     deno run dial.ts '[{"protocol":"tcp","ip":"10.96.0.10","port":80}]'
 *
 * Prints a JSON list of replies, as `dialing.ts` has them, in the same order.
 *
 * @module
 */
import { print } from "../../proxy/commands/terminal.ts";
import { type Dial, dial } from "./dialing.ts";

const dials = JSON.parse(Deno.args[0] ?? "[]") as Dial[];
print(JSON.stringify(await Promise.all(dials.map(dial))));
Deno.exit();
