#!/usr/bin/env bash
# Why there is no --source-address client: dials an endpoint from a pod's own
# address (IP_TRANSPARENT), as a proxy on the node would have to, and shows when
# the answer comes back to the proxy. Needs root, python3, iproute2; makes
# network namespaces of its own and leaves nothing.
set -euo pipefail
exec unshare --net --fork --pid --mount-proc --kill-child bash -euo pipefail -c '
ip link set lo up
ip link add cbr0 type bridge && ip addr add 10.244.0.1/24 dev cbr0
ip link set cbr0 up
echo 1 >/proc/sys/net/ipv4/ip_forward

pod() { # number
  unshare --net sleep infinity & pids[$1]=$!
  until [ "$(readlink /proc/${pids[$1]}/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do :; done
  ip link add veth$1 type veth peer name eth0 netns ${pids[$1]}
  ip link set veth$1 master cbr0 up
  nsenter -t ${pids[$1]} -n sh -c "
    ip addr add 10.244.0.$1/24 dev eth0; ip link set eth0 up; ip link set lo up
    ip route add default via 10.244.0.1"
}
declare -A pids
pod 2; pod 3

nsenter -t ${pids[3]} -n python3 -c "
import socket
listener = socket.create_server((\"10.244.0.3\", 8080))
print(\"ready\", flush=True)
while True:
    client, address = listener.accept()
    client.sendall(address[0].encode())
    client.close()
" > >(read -r; cat >/dev/null) &
sleep 1

dial() { # heading
  python3 - "$1" <<"P"
import socket, sys
IP_TRANSPARENT = 19
dialled = socket.socket()
dialled.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
dialled.bind(("10.244.0.2", 0))
dialled.settimeout(3)
try:
    dialled.connect(("10.244.0.3", 8080))
    print(f"{sys.argv[1]}: the endpoint saw {dialled.recv(64).decode()}")
except OSError as error:
    print(f"{sys.argv[1]}: {error}")
P
}
dial "two pods on one bridge"
ip route add local 0.0.0.0/0 dev lo table 100
ip rule add iif cbr0 from 10.244.0.3 lookup 100 pref 10
dial "the same, answers routed to the proxy"
bridge link set dev veth2 isolated on; bridge link set dev veth3 isolated on
echo 1 >/proc/sys/net/ipv4/conf/cbr0/proxy_arp_pvlan
nsenter -t ${pids[3]} -n ip neigh flush all
dial "the same, pods that reach each other only through the node"
'
