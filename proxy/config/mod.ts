/**
 * kube-proxy's configuration: KubeProxyConfiguration v1alpha1 from a file or
 * from flags, validated, and what it means here. The only file of this folder
 * that others import.
 *
 * @module
 */
export {
  addressFromDeprecatedFlag,
  appendPortIfNeeded,
  HEALTHZ_PORT,
  METRICS_PORT,
} from "./bind_addresses.ts";
export {
  type KubeProxyConfiguration,
  PROXY_MODE,
  PROXY_MODES,
} from "./configuration.ts";
export { ConfigurationError, invalidConfiguration } from "./errors.ts";
export { fieldOfText } from "./fields.ts";
export {
  type ConfigurationChange,
  configurationChange,
  fieldAt,
  fieldsWithoutMeaning,
  isWithoutMeaning,
  withAppliedChanges,
  withValue,
} from "./meaning.ts";
export {
  defaultConfiguration,
  parseConfiguration,
  type ParsedConfiguration,
} from "./parse.ts";
export { parsePortRange, type PortRange } from "./port_range.ts";
export { validate } from "./validate.ts";
export { configurationObject, configurationYaml, configz } from "./written.ts";
