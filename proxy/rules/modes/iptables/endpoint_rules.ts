/**
 * How one of several endpoints is chosen, and what happens then: the rules of
 * KUBE-SVC- and KUBE-SVL- chains that lead to endpoints, and the KUBE-SEP- chain
 * of each (facts 10.22, 10.23). Pure.
 *
 * @module
 */
import type { Endpoint } from "../../../endpoint.ts";
import { singleAddressCidr } from "../../../ip.ts";
import type { ServicePort } from "../../../service_port.ts";
import type { ModePort } from "../mode_input.ts";
import { endpointChain, KUBE_MARK_MASQ } from "./names.ts";
import {
  type IptablesChain,
  type IptablesRule,
  jump,
  type Protocol,
  rule,
} from "./program.ts";
import type { ServiceContext } from "./service_rules.ts";

/**
 * First the endpoint that the client had, if that is to be kept; then each by
 * chance: the i-th of n with 1/(n-i) of what is left, so that all are equally
 * likely (facts 3.2, 4.8).
 */
export function endpointRules(
  endpoints: readonly Endpoint[],
  { servicePort, context }: {
    servicePort: ServicePort;
    context: Pick<ServiceContext, "isLargeCluster">;
  },
): IptablesRule[] {
  const { text, affinitySeconds: seconds } = servicePort;
  const targets = endpoints.map(({ key }) => ({
    chain: endpointChain(servicePort, key),
    comment: context.isLargeCluster ? "" : `${text} -> ${key}`,
  }));
  const known = targets.map(({ chain, comment }) =>
    rule(
      comment,
      [{ type: "recently-seen", list: chain, seconds }],
      jump(chain),
    )
  );
  const byChance = targets.map(({ chain, comment }, i) => {
    const left = targets.length - i;
    return rule(
      comment,
      left === 1 ? [] : [{ type: "random", probability: 1 / left }],
      jump(chain),
    );
  });
  return [...(seconds > 0 ? known : []), ...byChance];
}

/** A chain for each endpoint that some client may use (facts 5.6, 10.29). */
export function endpointChains(
  { servicePort, all }: ModePort,
  { context, service }: {
    context: Pick<ServiceContext, "isLargeCluster">;
    service: string;
  },
): IptablesChain[] {
  const { text, affinitySeconds } = servicePort;
  const comment = context.isLargeCluster ? "" : text;
  const protocol = servicePort.protocol.toLowerCase() as Protocol;
  return all.map(({ key, ip, port }) => {
    const name = endpointChain(servicePort, key);
    return {
      name,
      service,
      rules: [
        // A client that is the endpoint itself: it would answer itself
        // directly, from an address that it did not ask.
        rule(
          comment,
          [{ type: "source", cidr: singleAddressCidr(ip) }],
          jump(KUBE_MARK_MASQ),
        ),
        rule(comment, [
          ...(affinitySeconds > 0
            ? [{ type: "remember", list: name } as const]
            : []),
          { type: "protocol", protocol },
        ], { type: "dnat", ip, port }),
      ],
    };
  });
}
