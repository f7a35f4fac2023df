/**
 * When two processes may listen on one address for a moment, of which the one is
 * replaced by the other: where the kernel gives what waits in the queue of a
 * listener that is closed to the other one (Linux 5.14). Without that, it is
 * reset, and a gap is the lesser evil.
 *
 * Such sockets (SO_REUSEPORT) let any process of the same user listen there too,
 * and have a share of the clients; `handover/README.md` says where that is no
 * danger.
 *
 * @module
 */

/** 1: queues pass on. Of each network namespace its own; 0 unless it is set. */
export const TCP_MIGRATE_REQ = "/proc/sys/net/ipv4/tcp_migrate_req";
