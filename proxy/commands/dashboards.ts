/**
 * `kube-portal dashboards`: files for those who already have Grafana and
 * Prometheus.
 *
 * @module
 */
import { stringify } from "@std/yaml";
import { alertRules } from "../status/alerts.ts";
import { grafanaDashboard } from "../status/grafana.ts";
import { UserError } from "./errors.ts";
import { parseFlags } from "./flags.ts";
import { print } from "./terminal.ts";

/** @throws {UserError} for anything but `grafana` and `alerts` */
export function dashboardsCommand(args: readonly string[]): number {
  const [which, ...rest] = args;
  parseFlags(rest, {});
  switch (which) {
    case "grafana":
      print(JSON.stringify(grafanaDashboard(), null, 2) + "\n");
      return 0;
    case "alerts":
      print(stringify(alertRules()));
      return 0;
    default:
      throw new UserError(
        which === undefined
          ? "Which file: grafana or alerts"
          : `Unknown file "${which}": want grafana or alerts`,
      );
  }
}
