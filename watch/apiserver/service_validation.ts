/**
 * What is wrong with a Service, in the real server's words
 * (pkg/apis/core/validation, ValidateService and ValidateServiceUpdate). It
 * sees the object with its defaults, before addresses are given out.
 *
 * Loopback external IPs are allowed, unlike there: the demo's cluster lives on
 * 127.0.0.0/8.
 *
 * @module
 */
import { familyOf, isCIDR } from "./addresses.ts";
import { isPortName, nameErrors } from "./names.ts";
import {
  type Admission,
  type KubeObject,
  record,
  records,
  text,
  texts,
} from "./resource.ts";
import {
  isExternallyAccessible,
  needsHealthCheckPort,
} from "./service_access.ts";
import { type FieldError, fieldError } from "./status.ts";

const { invalid, required, forbidden, duplicate, notSupported } = fieldError;

const TYPES = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const POLICIES = ["Cluster", "Local"];
const PROTOCOLS = ["SCTP", "TCP", "UDP"];
export const PORT_RANGE_TEXT = "must be between 1 and 65535, inclusive";
export const IP_TEXT =
  "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const CIDR_TEXT =
  "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/** Everything that is wrong; empty when the Service can be stored. */
export function serviceErrors(
  service: KubeObject,
  { previous }: Admission,
): FieldError[] {
  const spec = record(service.spec);
  const errors: FieldError[] = [];
  if (!TYPES.includes(text(spec.type))) {
    errors.push(notSupported("spec.type", spec.type, TYPES));
  }
  errors.push(
    ...portsErrors(spec),
    ...affinityErrors(spec),
    ...policyErrors(spec),
    ...addressErrors(spec),
  );
  if (spec.type === "ExternalName") errors.push(...externalNameErrors(spec));
  if (previous !== undefined) {
    errors.push(...changeErrors(spec, record(previous.spec)));
  }
  return errors;
}

/** @param value a port number from 1 */
export function isPort(value: unknown): boolean {
  return typeof value === "number" && value >= 1 && value <= 65535;
}

function portsErrors(spec: Record<string, unknown>): FieldError[] {
  const ports = records(spec.ports);
  if (ports.length === 0) {
    return spec.clusterIP === "None" || spec.type === "ExternalName"
      ? []
      : [required("spec.ports")];
  }
  const errors: FieldError[] = [];
  const names = new Set<string>();
  const numbers = new Set<string>();
  const nodePorts = new Set<string>();
  for (const [index, port] of ports.entries()) {
    const field = `spec.ports[${index}]`;
    errors.push(...portErrors(port, field, spec, ports.length > 1));
    const name = text(port.name);
    if (name !== "" && names.has(name)) {
      errors.push(duplicate(`${field}.name`, name));
    }
    names.add(name);
    const { protocol, port: number, nodePort } = port;
    if (numbers.has(`${protocol}/${number}`)) {
      errors.push(duplicate(field, { protocol, port: number }));
    }
    numbers.add(`${protocol}/${number}`);
    if (nodePort !== undefined) {
      if (nodePorts.has(`${protocol}/${nodePort}`)) {
        errors.push(duplicate(`${field}.nodePort`, nodePort));
      }
      nodePorts.add(`${protocol}/${nodePort}`);
    }
  }
  return errors;
}

function portErrors(
  port: Record<string, unknown>,
  field: string,
  spec: Record<string, unknown>,
  needsName: boolean,
): FieldError[] {
  const errors: FieldError[] = [];
  const name = text(port.name);
  if (name !== "") errors.push(...nameErrors(`${field}.name`, name, "label"));
  else if (needsName) errors.push(required(`${field}.name`));
  if (!isPort(port.port)) {
    errors.push(invalid(`${field}.port`, port.port ?? 0, PORT_RANGE_TEXT));
  }
  if (!PROTOCOLS.includes(text(port.protocol))) {
    errors.push(notSupported(`${field}.protocol`, port.protocol, PROTOCOLS));
  }
  const target = port.targetPort;
  if (typeof target === "string" ? !isPortName(target) : !isPort(target)) {
    const why = typeof target === "string"
      ? "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), at least one letter, and no more than 15 characters"
      : PORT_RANGE_TEXT;
    // A wrong port is its target's default: told once is enough.
    if (target !== port.port) {
      errors.push(invalid(`${field}.targetPort`, target, why));
    }
  }
  if (
    port.nodePort !== undefined &&
    (spec.type === "ClusterIP" || spec.type === "ExternalName")
  ) {
    const why = `may not be used when \`type\` is '${spec.type}'`;
    errors.push(forbidden(`${field}.nodePort`, why));
  }
  return errors;
}

function affinityErrors(spec: Record<string, unknown>): FieldError[] {
  if (spec.sessionAffinity === "None") return [];
  if (spec.sessionAffinity !== "ClientIP") {
    return [
      notSupported("spec.sessionAffinity", spec.sessionAffinity, [
        "ClientIP",
        "None",
      ]),
    ];
  }
  const { timeoutSeconds } = record(
    record(spec.sessionAffinityConfig).clientIP,
  );
  return typeof timeoutSeconds === "number" && timeoutSeconds > 0 &&
      timeoutSeconds <= 86400
    ? []
    : [
      invalid(
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        timeoutSeconds,
        "must be greater than 0 and less than 86400",
      ),
    ];
}

function policyErrors(spec: Record<string, unknown>): FieldError[] {
  const errors: FieldError[] = [];
  for (const name of ["internalTrafficPolicy", "externalTrafficPolicy"]) {
    const value = spec[name];
    if (value !== undefined && !POLICIES.includes(text(value))) {
      errors.push(notSupported(`spec.${name}`, value, POLICIES));
    }
  }
  if (
    spec.externalTrafficPolicy !== undefined && !isExternallyAccessible(spec)
  ) {
    const why = "may only be set for externally-accessible services";
    errors.push(
      invalid("spec.externalTrafficPolicy", spec.externalTrafficPolicy, why),
    );
  }
  if (spec.healthCheckNodePort !== undefined && !needsHealthCheckPort(spec)) {
    const why =
      "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
    errors.push(
      invalid("spec.healthCheckNodePort", spec.healthCheckNodePort, why),
    );
  }
  const distributions = ["PreferClose", "PreferSameNode", "PreferSameZone"];
  const distribution = spec.trafficDistribution;
  if (
    distribution !== undefined && !distributions.includes(text(distribution))
  ) {
    errors.push(
      notSupported("spec.trafficDistribution", distribution, distributions),
    );
  }
  return errors;
}

function addressErrors(spec: Record<string, unknown>): FieldError[] {
  const errors: FieldError[] = [];
  const clusterIPs = texts(spec.clusterIPs);
  for (const [index, ip] of clusterIPs.entries()) {
    const field = `spec.clusterIPs[${index}]`;
    if (ip === "None" && clusterIPs.length === 1) continue;
    if (familyOf(ip) === undefined) errors.push(invalid(field, ip, IP_TEXT));
  }
  if (clusterIPs.length > 2) {
    const why = "may only hold up to 2 values";
    errors.push(invalid("spec.clusterIPs", clusterIPs, why));
  }
  if (clusterIPs[0] !== undefined && clusterIPs[0] !== spec.clusterIP) {
    const why = "first value must match `clusterIP`";
    errors.push(invalid("spec.clusterIPs", clusterIPs, why));
  }
  if (
    spec.clusterIP === "None" &&
    (spec.type === "NodePort" || spec.type === "LoadBalancer")
  ) {
    const why = "may not be set to 'None' for LoadBalancer services".replace(
      "LoadBalancer",
      spec.type,
    );
    errors.push(invalid("spec.clusterIPs[0]", "None", why));
  }
  for (const [index, ip] of texts(spec.externalIPs).entries()) {
    if (familyOf(ip) !== undefined && ip !== "0.0.0.0" && ip !== "::") continue;
    const why = familyOf(ip) === undefined
      ? IP_TEXT
      : "may not be unspecified (0.0.0.0 or ::)";
    errors.push(invalid(`spec.externalIPs[${index}]`, ip, why));
  }
  const ranges = texts(spec.loadBalancerSourceRanges);
  if (ranges.length > 0 && spec.type !== "LoadBalancer") {
    const why = "may only be used when `type` is 'LoadBalancer'";
    errors.push(forbidden("spec.LoadBalancerSourceRanges", why));
  }
  for (const [index, range] of ranges.entries()) {
    if (isCIDR(range.trim())) continue;
    const field = `spec.loadBalancerSourceRanges[${index}]`;
    errors.push(invalid(field, range, CIDR_TEXT));
  }
  return errors;
}

function externalNameErrors(spec: Record<string, unknown>): FieldError[] {
  const errors: FieldError[] = [];
  const name = text(spec.externalName);
  if (name === "") errors.push(required("spec.externalName"));
  else {
    const bare = name.endsWith(".") ? name.slice(0, -1) : name;
    errors.push(...nameErrors("spec.externalName", bare, "subdomain"));
  }
  if (text(spec.clusterIP) !== "") {
    const why = "may not be set for ExternalName services";
    errors.push(forbidden("spec.clusterIPs", why));
  }
  return errors;
}

function changeErrors(
  spec: Record<string, unknown>,
  before: Record<string, unknown>,
): FieldError[] {
  if (spec.type === "ExternalName" || before.type === "ExternalName") return [];
  const errors: FieldError[] = [];
  const why = "may not change once set";
  const [ip] = texts(before.clusterIPs);
  const clusterIPs = texts(spec.clusterIPs);
  if (ip !== undefined && clusterIPs[0] !== ip) {
    errors.push(invalid("spec.clusterIPs[0]", clusterIPs, why));
  }
  const port = before.healthCheckNodePort;
  if (
    port !== undefined && needsHealthCheckPort(spec) &&
    spec.healthCheckNodePort !== port
  ) {
    errors.push(forbidden("spec.healthCheckNodePort", "field is immutable"));
  }
  return errors;
}
