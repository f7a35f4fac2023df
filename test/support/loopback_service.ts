/**
 * A Service that needs no steering: its address is of 127.0.0.0/8, and so is
 * that of its endpoint.
 *
 * @module
 */
import { manifest } from "./kube_objects.ts";

/** Where clients connect. */
export const LOOPBACK_SERVICE = { ip: "127.96.0.10", port: 8888 };

/** The Service and its slice, as YAML. */
export function loopbackService(
  endpoint: { readonly ip: string; readonly port: number },
): string {
  return manifest(
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web" },
      spec: {
        clusterIP: LOOPBACK_SERVICE.ip,
        ports: [{
          name: "http",
          port: LOOPBACK_SERVICE.port,
          targetPort: endpoint.port,
        }],
      },
    },
    {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: {
        name: "web-1",
        labels: { "kubernetes.io/service-name": "web" },
      },
      addressType: "IPv4",
      ports: [{ name: "http", protocol: "TCP", port: endpoint.port }],
      endpoints: [{
        addresses: [endpoint.ip],
        conditions: { ready: true },
      }],
    },
  );
}
