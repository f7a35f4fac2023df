/**
 * Two questions about how a Service is reached, on which defaults, validation
 * and the giving out of ports depend (pkg/api/service).
 *
 * @module
 */
import { texts } from "./resource.ts";

/** Reachable from outside by an address of its own: external policy counts. */
export function isExternallyAccessible(
  spec: Readonly<Record<string, unknown>>,
): boolean {
  return spec.type === "NodePort" || spec.type === "LoadBalancer" ||
    spec.type === "ClusterIP" && texts(spec.externalIPs).length > 0;
}

/** Has a port at which a node tells whether it has endpoints. */
export function needsHealthCheckPort(
  spec: Readonly<Record<string, unknown>>,
): boolean {
  return spec.type === "LoadBalancer" && spec.externalTrafficPolicy === "Local";
}
