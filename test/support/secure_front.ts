/**
 * A program for tests: what a real API server has in front and the embedded one
 * has not. HTTPS on an address of its own, by test/fixture/tls/'s certificate,
 * and nothing without the token.
 *
 *     deno run secure_front.ts 127.0.0.1 6443 http://127.0.0.1:8001 TOKEN
 *
 * Prints `ready` once it listens.
 *
 * @module
 */
import { print } from "../../proxy/commands/terminal.ts";
import { tlsText } from "./tls.ts";

const [hostname = "", port = "", server = "", token = ""] = Deno.args;

async function answer(request: Request): Promise<Response> {
  if (request.headers.get("authorization") !== `Bearer ${token}`) {
    return new Response("Unauthorized\n", { status: 401 });
  }
  const { pathname, search } = new URL(request.url);
  const headers = new Headers(request.headers);
  headers.delete("host");
  const response = await fetch(`${server}${pathname}${search}`, {
    method: request.method,
    headers,
    body: request.body,
    // A watch ends with whoever watches.
    signal: request.signal,
  });
  return new Response(response.body, response);
}

Deno.serve({
  hostname,
  port: Number(port),
  cert: tlsText("server.crt"),
  key: tlsText("server.key"),
  onListen: () => print("ready\n"),
}, answer);
