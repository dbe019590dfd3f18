# shellcheck shell=bash disable=SC2034,SC2154 # variables of run.sh
# Faults of the network, each in network namespaces of its own: no interface of the machine is touched.

# net_pair: two namespaces, $near with 10.99.0.1 and $far with 10.99.0.2, joined by a cable. The doctor looks at $near.
net_pair() {
    local space
    near=apm-near-$$ far=apm-far-$$
    for space in $near $far; do
        ip netns add "$space" || return 1
        undo "ip netns del $space"
        ip -n "$space" link set lo up
    done
    ip link add v0 netns "$near" type veth peer name v0 netns "$far"
    ip -n "$near" addr add 10.99.0.1/24 dev v0
    ip -n "$far" addr add 10.99.0.2/24 dev v0
    # A veth hands on packets of 64 KiB: with segments as on a cable, loss is that of a cable.
    for space in $near $far; do ip -n "$space" link set v0 gso_max_segs 1 up; done
    doctor_prefix=(ip netns exec "$near")
}

# run_in NAMESPACE WHAT HOST PORT [MORE...]: a part of network.py; returns when it says that it stands.
run_in() {
    local namespace=$1 try
    shift
    rm -f "$scratch/ready"
    READY=$scratch/ready start ip netns exec "$namespace" python3 "$here/network.py" "$@"
    for ((try = 0; try < 200; try++)); do
        [ -e "$scratch/ready" ] && return 0
        sleep 0.05
    done
    echo "$1 does not start" >&2
    return 1
}

# lose NAMESPACE STATISTIC...: packets of TCP that come in there and are lost.
lose() {
    local namespace=$1
    shift
    ip netns exec "$namespace" iptables -A INPUT -p tcp -m statistic "$@" -j DROP
}

# expect net.retrans 10.99.0.2:5001
# expect net.retrans python3
# needs root ip iptables python3
# looks net.retrans ss
fault_loss_5_percent() {
    net_pair && run_in "$far" sink 10.99.0.2 5001 && lose "$far" --mode random --probability 0.05 &&
        run_in "$near" send 10.99.0.2 5001
}

# expect net.retrans 10.99.0.2:5001
# needs root ip iptables python3
# looks net.retrans ss
fault_loss_30_percent() {
    net_pair && run_in "$far" sink 10.99.0.2 5001 && run_in "$near" send 10.99.0.2 5001 &&
        lose "$far" --mode random --probability 0.3
}

# areas network
# needs root ip iptables python3
calm_one_of_twenty_lost() {
    net_pair && run_in "$far" sink 10.99.0.2 5001 && run_in "$near" drip 10.99.0.2 5001 10 &&
        lose "$far" --mode nth --every 20 --packet 0
}

# expect net.listen_ovf python3
# needs root ip python3
# looks net.listen_ovf wchan
fault_listen_overflow() {
    net_pair && run_in "$near" deaf 10.99.0.1 8080 2 && run_in "$far" knock 10.99.0.1 8080 150 && sleep 0.5
}

# Those who connected have gone away, the program still hangs.
# expect net.listen_ovf python3
# needs root ip python3
# looks net.listen_ovf wchan
fault_listen_hung() {
    net_pair && run_in "$near" deaf 10.99.0.1 8080 2 && run_in "$far" hold 10.99.0.1 8080 3
}

# areas network
# needs root ip python3
calm_overflows_long_ago() {
    net_pair && run_in "$near" deaf 10.99.0.1 8080 2 && local server=$pid && run_in "$far" knock 10.99.0.1 8080 150 &&
        sleep 1 && kill "$pid" "$server" && sleep 2
}

# expect net.syn_cookies python3
# needs root ip python3
# looks net.syn_cookies ss
fault_syn_flood() {
    net_pair && ip -n "$near" route add 10.77.0.0/16 via 10.99.0.2 && run_in "$near" deaf 10.99.0.1 8080 64 &&
        run_in "$far" syn_flood 10.99.0.1 8080 2000 && sleep 0.5
}

# expect net.if_drops v0
# needs root ip tc python3
# looks net.if_drops tc
fault_tbf_drops() {
    net_pair && tc -n "$near" qdisc add dev v0 root tbf rate 1mbit burst 10kb limit 20kb &&
        run_in "$near" udp_send 10.99.0.2 9 200 3000
}

# expect net.if_util t0
# needs root ip ethtool tc python3
# looks net.if_util ss
fault_link_is_full() {
    net_pair && ip -n "$near" tuntap add t0 mode tap && ip -n "$near" addr add 10.98.0.1/24 dev t0 &&
        ip -n "$near" link set t0 up && run_in "$near" tap t0 0 && ip netns exec "$near" ethtool -s t0 speed 10 duplex full &&
        ip -n "$near" neigh add 10.98.0.2 lladdr 02:00:00:00:00:02 dev t0 &&
        tc -n "$near" qdisc add dev t0 root tbf rate 9500kbit burst 10kb limit 20kb &&
        run_in "$near" udp_send 10.98.0.2 9 1200 3000
}

# expect net.softnet
# expect cpu.softirq
# needs root ip python3
# unsafe
# follow net.softnet backlog
# outside
fault_backlog_overflows() {
    net_pair && setting net/core/netdev_max_backlog 1 || return 1
    # What one CPU takes another has to deliver.
    ip netns exec "$near" sh -c 'echo 2 >/sys/class/net/v0/queues/rx-0/rps_cpus' 2>/dev/null || { why='one CPU'; return 1; }
    run_in "$far" udp_send 10.99.0.1 9 100 && run_in "$far" udp_send 10.99.0.1 9 100
}

# expect net.sockmem python3
# needs root ip python3
# unsafe
# looks net.sockmem ss
fault_memory_of_sockets() {
    start python3 "$here/network.py" keep 127.0.0.1 5991
    sleep 0.5
    start python3 "$here/network.py" fill 127.0.0.1 5991 200
    sleep 2
    local used
    used=$(awk '/^TCP:/ {print $NF}' /proc/net/sockstat)
    setting net/ipv4/tcp_mem "$((used / 2)) $((used * 3 / 4)) $((used * 20 / 19))"
}

# Nobody answers, beside a transfer that is well.
# expect net.no_answer 10.99.0.2:443
# expect net.no_answer python3
# needs root ip iptables python3
# unfollowed it only shows the way, with programs that may not be installed
fault_nobody_answers() {
    net_pair && run_in "$far" sink 10.99.0.2 5001 && ip netns exec "$far" iptables -A INPUT -p tcp --dport 443 -j DROP &&
        run_in "$near" send 10.99.0.2 5001 && run_in "$near" hang 10.99.0.2 443 60 && sleep 3
}

# expect net.close_wait python3
# needs root ip python3
# looks net.close_wait ss
fault_connections_left_open() {
    net_pair && run_in "$near" leave_open 10.99.0.1 5001 200
}

# Four of five packets are lost, of all sizes: that is no matter of the size.
# expect net.mtu
# areas network
# needs root ip iptables python3
calm_heavy_loss_is_no_mtu() {
    net_pair && run_in "$far" sink 10.99.0.2 5001 && run_in "$near" send 10.99.0.2 5001 && sleep 0.5 &&
        lose "$far" --mode random --probability 0.8 && sleep 1.5
}

# A bulk transfer over a slow link loses a little: that is how TCP finds its speed.
# areas network
# needs root ip tc python3
calm_slow_link() {
    net_pair && tc -n "$near" qdisc add dev v0 root tbf rate 50mbit burst 64kb latency 200ms &&
        run_in "$far" sink 10.99.0.2 5001 && run_in "$near" send 10.99.0.2 5001
}

# expect net.udp_rcvbuf python3
# needs root ip python3
# unfollowed the program has to ask for a larger buffer by itself
fault_udp_not_read() {
    net_pair && run_in "$near" udp_deaf 10.99.0.1 5353 && run_in "$far" udp_send 10.99.0.1 5353 200 5000 && sleep 1
}

# expect net.ports 10.99.0.2:443
# expect net.ports python3
# needs root ip python3
# follow net.ports ip_local_port_range
fault_ports_used_up() {
    net_pair && ip netns exec "$near" sysctl -qw net.ipv4.ip_local_port_range="40000 40063" &&
        run_in "$far" keep 10.99.0.2 443 && run_in "$near" hold 10.99.0.2 443 64
}

# expect net.time_wait 10.99.0.2:443
# needs root ip python3
# unfollowed new connections take these ports then; as many wait as before
fault_time_wait() {
    net_pair && ip netns exec "$near" sysctl -qw net.ipv4.ip_local_port_range="40000 40199" &&
        run_in "$far" closer 10.99.0.2 443 && run_in "$near" close_many 10.99.0.2 443 130
}

# areas network
# needs root ip python3
calm_time_wait_3000() {
    net_pair && run_in "$far" closer 10.99.0.2 443 && run_in "$near" close_many 10.99.0.2 443 3000
}

# expect net.conntrack 10.99.0.77
# needs root ip iptables python3
# follow net.conntrack conntrack_max
# outside
fault_conntrack_full() {
    net_pair && ip netns exec "$near" iptables -A INPUT -m conntrack --ctstate INVALID -j DROP &&
        ip -n "$far" addr add 10.99.0.77/24 dev v0 &&
        keeps net/netfilter/nf_conntrack_max &&
        run_in "$far" track 10.99.0.1 9 "$(($(cat /proc/sys/net/netfilter/nf_conntrack_max) + 1000))"
}

# expect net.rst python3
# needs root ip python3
# looks net.rst ss
fault_connections_refused() {
    net_pair && run_in "$near" refused 10.99.0.2 9
}

# From outside: those who are refused are known to nobody here.
# expect net.rst
# needs root ip python3
# looks net.rst ss
fault_closed_port_asked_for() {
    net_pair && run_in "$far" refused 10.99.0.1 9 200
}

# areas network
# needs root ip python3
calm_refused_now_and_then() {
    net_pair && run_in "$near" refused 10.99.0.2 9 2
}

# Somewhere on the way larger packets are dropped, and nobody says so.
# expect net.mtu 10.99.0.2:5001
# expect net.mtu python3
# needs root ip iptables python3
# follow net.mtu mtu_probing
# settles 12
fault_mtu_black_hole() {
    net_pair && ip netns exec "$far" iptables -A INPUT -m length --length 1401:65535 -j DROP &&
        run_in "$far" sink 10.99.0.2 5001 && run_in "$near" head_then_body 10.99.0.2 5001 && sleep 1
}

# The other side is gone, whatever the size of packets.
# expect net.mtu
# areas network
# needs root ip iptables python3
calm_path_dead() {
    net_pair && run_in "$far" sink 10.99.0.2 5001 && run_in "$near" drip 10.99.0.2 5001 10 && sleep 0.5 &&
        ip netns exec "$far" iptables -A INPUT -j DROP && sleep 1.5
}

# areas network
# needs root ip python3
calm_fast_transfer() {
    net_pair && ip -n "$near" link set v0 gso_max_segs 65535 && run_in "$far" sink 10.99.0.2 5001 &&
        run_in "$near" send 10.99.0.2 5001
}

# expect net.proxy HTTPS_PROXY
# follow net.proxy unset
fault_proxy_refuses() {
    doctor_prefix=(env HTTPS_PROXY=http://user:secret@127.0.0.1:9)
    doctor_words=(--probe)
}
then_proxy_refuses() {
    export HTTPS_PROXY=http://user:secret@127.0.0.1:9
    doctor_prefix=()
    eval "$advice"
}

# expect net.dns 10.99.0.2:53
# needs root ip
# looks net.dns resolv.conf
fault_nameserver_silent() {
    net_pair && mkdir -p "/etc/netns/$near" && echo "nameserver 10.99.0.2" >"/etc/netns/$near/resolv.conf" &&
        undo "rm -rf /etc/netns/$near; rmdir /etc/netns" && ip -n "$far" addr del 10.99.0.2/24 dev v0 &&
        ip -n "$near" neigh add 10.99.0.2 lladdr 02:00:00:00:00:01 dev v0
    doctor_words=(--probe)
}

# expect llm.net 127.0.0.1:9
fault_host_refuses() {
    doctor_words=(--probe=127.0.0.1:9)
}
