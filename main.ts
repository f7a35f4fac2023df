/**
 * Entry point: which command, and what its end means for the exit code. Each
 * command's wiring is a file in `proxy/commands/`; `run.ts` there is the place
 * to start reading.
 *
 * @module
 */
import { errorLine } from "./proxy/commands/errors.ts";
import { helpText } from "./proxy/commands/help.ts";
import { print, printError } from "./proxy/commands/terminal.ts";
import { wantsStacks } from "./proxy/commands/verbosity.ts";
import { versionCommand } from "./proxy/commands/version.ts";

/**
 * Runs one command. With flags only it is the proxy, so that this program can
 * stand in for the kube-proxy binary without other arguments.
 *
 * Commands are imported when they are called: the proxy does not wait for the
 * embedded API server to load.
 *
 * @returns the exit code: 0, or 1 if it could not do what was asked
 */
async function main(args: readonly string[]): Promise<number> {
  const first = args[0];
  const isCommand = first !== undefined && !first.startsWith("-");
  const rest = isCommand ? args.slice(1) : args;
  if (first === "help") {
    print(helpText(rest[0]));
    return 0;
  }
  if (rest.includes("--help") || rest.includes("-h")) {
    print(helpText(isCommand ? first : undefined));
    return 0;
  }
  switch (isCommand ? first : "run") {
    case "run":
      return await (await import("./proxy/commands/run.ts")).runCommand(rest);
    case "apiserver":
      return await (await import("./proxy/commands/apiserver.ts"))
        .apiserverCommand(rest);
    case "demo":
      return await (await import("./proxy/commands/demo.ts")).demoCommand(rest);
    case "doctor":
      return await (await import("./proxy/commands/doctor.ts"))
        .doctorCommand(rest);
    case "explain":
      return await (await import("./proxy/commands/explain.ts"))
        .explainCommand(rest);
    case "render":
      return await (await import("./proxy/commands/render.ts"))
        .renderCommand(rest);
    case "daemonset":
      return await (await import("./proxy/commands/daemonset.ts"))
        .daemonsetCommand(rest);
    case "status":
      return await (await import("./proxy/commands/status.ts"))
        .statusCommand(rest);
    case "dashboards":
      return await (await import("./proxy/commands/dashboards.ts"))
        .dashboardsCommand(rest);
    case "cleanup":
      return await (await import("./proxy/commands/cleanup.ts"))
        .cleanupCommand(rest);
    case "version":
      return versionCommand(rest);
    default:
      printError(
        `kube-portal: Unknown command "${first}"; see kube-portal --help\n`,
      );
      return 1;
  }
}

try {
  Deno.exit(await main(Deno.args));
} catch (error) {
  printError(`kube-portal: ${errorLine(error)}\n`);
  if (wantsStacks(Deno.args) && error instanceof Error) {
    printError(`${error.stack}\n`);
  }
  Deno.exit(1);
}
