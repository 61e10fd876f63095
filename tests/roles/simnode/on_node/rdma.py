"""Tools that show and set the RDMA cards: rdma-core, infiniband-diags, mlnx-tools, libfabric."""

from __future__ import annotations

import sys
from typing import Any

from . import core, sysfs
from .core import View

STATES = {"1": ("PORT_DOWN (1)", "Down"), "4": ("PORT_ACTIVE (4)", "Active")}


def run(name: str, arguments: list[str]) -> int:
    return {
        "ibv_devinfo": devinfo, "ibv_devices": device_list, "ibstat": ibstat, "ibstatus": ibstatus,
        "ibdev2netdev": ibdev2netdev, "rdma": rdma, "mlnx_qos": mlnx_qos, "cma_roce_tos": cma_roce_tos,
        "fi_info": fi_info, "sminfo": sminfo, "ofed_info": ofed_info, "show_gids": show_gids, "mst": quiet,
        "mlxconfig": quiet,
    }[name](core.view(), arguments)  # fmt: skip


def quiet(_view: View, _arguments: list[str]) -> int:
    return 0


def _layer(nic: dict[str, Any]) -> str:
    return "Unspecified" if nic["link_layer"] == "EFA" else str(nic["link_layer"])


def _lid(view: View, nic: dict[str, Any]) -> int:
    if nic["link_layer"] != "InfiniBand" or nic["down"]:
        return 0
    return sysfs.rdma_devices(view).index(nic) + 1


def devinfo(view: View, arguments: list[str]) -> int:
    wanted = arguments[arguments.index("-d") + 1] if "-d" in arguments else ""
    cards = [nic for nic in sysfs.rdma_devices(view) if wanted in ("", nic["hca"])]
    if "-l" in arguments or "--list" in arguments:
        print(f"{len(cards)} HCAs found:\n" + "\n".join(f"\t{nic['hca']}" for nic in cards))
        return 0
    if not cards:
        print(f"IB device '{wanted}' wasn't found" if wanted else "No IB devices found", file=sys.stderr)
        return 255
    for nic in cards:
        efa = nic["link_layer"] == "EFA"
        guid = sysfs.guid(nic)
        print(f"hca_id:\t{nic['hca']}\n\ttransport:\t\t\t{'unspecified (4)' if efa else 'InfiniBand (0)'}")
        print(f"\tfw_ver:\t\t\t\t{nic.get('fw', '0.0.0.0')}\n\tnode_guid:\t\t\t{guid}\n\tsys_image_guid:\t\t\t{guid}")
        print(f"\tvendor_id:\t\t\t{'0x1d0f' if efa else '0x02c9'}")
        print(f"\tvendor_part_id:\t\t\t{int(nic['id'].partition(':')[2], 16)}\n\thw_ver:\t\t\t\t0x0")
        print("" if efa else "\tboard_id:\t\t\tMT_0000000838\n", end="")
        print("\tphys_port_cnt:\t\t\t1\n\t\tport:\t1")
        state = STATES[sysfs.port(nic)["state"][0]][0]
        mtu = "4096 (5)" if nic["link_layer"] != "Ethernet" else "1024 (3)"
        print(f"\t\t\tstate:\t\t\t{state}\n\t\t\tmax_mtu:\t\t4096 (5)\n\t\t\tactive_mtu:\t\t{mtu}")
        print(f"\t\t\tsm_lid:\t\t\t{1 if _lid(view, nic) else 0}\n\t\t\tport_lid:\t\t{_lid(view, nic)}")
        print(f"\t\t\tport_lmc:\t\t0x00\n\t\t\tlink_layer:\t\t{_layer(nic)}\n")
    return 0


def device_list(view: View, _arguments: list[str]) -> int:
    print("    device          \t   node GUID\n    ------          \t----------------")
    for nic in sysfs.rdma_devices(view):
        print(f"    {nic['hca']:<16}\t{sysfs.guid(nic).replace(':', '')}")
    return 0


def ibstat(view: View, arguments: list[str]) -> int:
    cards = [nic for nic in sysfs.rdma_devices(view) if nic["link_layer"] != "EFA"]
    if "-l" in arguments:
        print("\n".join(nic["hca"] for nic in cards))
        return 0
    wanted = [word for word in arguments if not word.startswith("-")]
    for nic in cards:
        if wanted and nic["hca"] not in wanted:
            continue
        guid = "0x" + sysfs.guid(nic).replace(":", "")
        port = sysfs.port(nic)
        print(f"CA '{nic['hca']}'\n\tCA type: MT4129\n\tNumber of ports: 1\n\tFirmware version: {nic.get('fw', '')}")
        print(f"\tHardware version: 0\n\tNode GUID: {guid}\n\tSystem image GUID: {guid}\n\tPort 1:")
        print(f"\t\tState: {STATES[port['state'][0]][1]}\n\t\tPhysical state: {port['phys_state'].partition(': ')[2]}")
        print(f"\t\tRate: {nic['rate']}\n\t\tBase lid: {_lid(view, nic)}\n\t\tLMC: 0")
        print(f"\t\tSM lid: {1 if _lid(view, nic) else 0}\n\t\tCapability mask: 0xa751e848\n\t\tPort GUID: {guid}")
        print(f"\t\tLink layer: {nic['link_layer']}")
    return 0


def ibstatus(view: View, _arguments: list[str]) -> int:
    for nic in sysfs.rdma_devices(view):
        port = sysfs.port(nic)
        gid = (nic.get("gids") or [{"gid": "0"}])[0]["gid"]
        print(f"Infiniband device '{nic['hca']}' port 1 status:\n\tdefault gid:\t {gid}")
        print(f"\tbase lid:\t {_lid(view, nic):#x}")
        print(f"\tsm lid:\t\t {1 if _lid(view, nic) else 0:#x}\n\tstate:\t\t {port['state']}")
        print(
            f"\tphys state:\t {port['phys_state']}\n\trate:\t\t {port['rate']}\n\tlink_layer:\t {port['link_layer']}\n"
        )
    return 0


def ibdev2netdev(view: View, _arguments: list[str]) -> int:
    for nic in sysfs.rdma_devices(view):
        if nic.get("netdev"):
            print(f"{nic['hca']} port 1 ==> {nic['netdev']} ({'Down' if nic['down'] else 'Up'})")
    return 0


def rdma(view: View, arguments: list[str]) -> int:
    import json

    rows = []
    for number, nic in enumerate(sysfs.rdma_devices(view)):
        state, physical = ("DOWN", "DISABLED") if nic["down"] else ("ACTIVE", "LINK_UP")
        rows.append({"ifindex": number, "ifname": nic["hca"], "port": 1, "state": state, "physical_state": physical,
                     **({"netdev": nic["netdev"]} if nic.get("netdev") else {})})  # fmt: skip
    if any(word in ("-j", "-jp") for word in arguments):
        print(json.dumps(rows))
    elif "dev" in arguments:
        for nic, row in zip(sysfs.rdma_devices(view), rows, strict=True):
            print(f"{row['ifindex']}: {nic['hca']}: node_type ca fw {nic.get('fw')} node_guid {sysfs.guid(nic)}")
    else:
        for row in rows:
            told = f"link {row['ifname']}/1 state {row['state']} physical_state {row['physical_state']}"
            print(told + (f" netdev {row['netdev']}" if "netdev" in row else ""))
    return 0


def sminfo(view: View, _arguments: list[str]) -> int:
    """An InfiniBand subnet has its manager unless a fault says otherwise."""
    cards = [nic for nic in sysfs.rdma_devices(view) if _lid(view, nic)]
    if not cards or view.has("no-subnet-manager") or "ib_umad" not in view.modules:
        print("ibwarn: [1] mad_rpc: timeout\nsminfo: iberror: failed: query", file=sys.stderr)
        return 1
    print("sminfo: sm lid 1 sm guid 0x58a2e10300000001, activity count 186734 priority 14 state 3 SMINFO_MASTER")
    return 0


def ofed_info(_view: View, arguments: list[str]) -> int:
    print("OFED-internal-25.10-1.7.1:" if "-s" in arguments else "OFED-internal-25.10-1.7.1 (OFED-25.10-1.7.1)")
    return 0


def show_gids(view: View, _arguments: list[str]) -> int:
    print("DEV\tPORT\tINDEX\tGID\t\t\t\t\tIPv4  \t\tVER\tDEV")
    print("---\t----\t-----\t---\t\t\t\t\t------------  \t---\t---")
    count = 0
    for nic in sysfs.rdma_devices(view):
        for found in nic.get("gids") or []:
            words = found["gid"].split(":")
            version = "v2" if found["type"] == "RoCE v2" else "v1"
            address = ".".join(map(str, bytes.fromhex(words[6] + words[7]))) if words[5] == "ffff" else ""
            print(
                f"{nic['hca']}\t1\t{found['index']}\t{found['gid']}\t{address}\t{version}\t{found.get('netdev') or ''}"
            )
            count += 1
    print(f"n_gids_found={count}")
    return 0


def fi_info(view: View, arguments: list[str]) -> int:
    cards = [nic for nic in sysfs.rdma_devices(view) if nic["link_layer"] == "EFA"]
    if not cards:
        print("fi_getinfo: -61 (No data available)", file=sys.stderr)
        return 61
    for nic in cards:
        print(f"provider: efa\n    fabric: efa\n    domain: {nic['hca']}-rdm\n    version: 203.0")
        print("    type: FI_EP_RDM\n    protocol: FI_PROTO_EFA" if "-p" in arguments else "    type: FI_EP_RDM")
    return 0


# -- RoCE classes


def _qos(view: View, netdev: str) -> dict[str, Any]:
    known = view.state.setdefault("qos", {})
    fresh = {"trust": "pcp", "pfc": "0,0,0,0,0,0,0,0", "map": {str(dscp): dscp >> 3 for dscp in range(64)}}
    found: dict[str, Any] = known.setdefault(netdev, fresh)
    return found


def mlnx_qos(view: View, arguments: list[str]) -> int:
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    given = {word: words[position + 1] for position, word in enumerate(words[:-1]) if word.startswith("-")}
    netdev = given.get("-i") or given.get("--interface") or ""
    if netdev not in {nic.get("netdev") for nic in view.nics if nic["link_layer"] == "Ethernet"}:
        print(f"Interface {netdev} doesn't exist or isn't supported", file=sys.stderr)
        return 1
    with core.changing() as now:
        state = _qos(now, netdev)
        state["trust"] = given.get("--trust", state["trust"])
        state["pfc"] = given.get("--pfc", given.get("-f", state["pfc"]))
        if "--dscp2prio" in given:
            verb, dscp, wanted = given["--dscp2prio"].split(",")
            state["map"][dscp] = int(wanted) if verb == "set" else int(dscp) >> 3
    print(f"DCBX mode: OS controlled\nPriority trust state: {state['trust']}")
    if state["trust"] == "dscp":
        print("dscp2prio mapping:")
        for priority in range(8):
            mapped = sorted((int(dscp) for dscp, to in state["map"].items() if to == priority), reverse=True)
            for start in range(0, len(mapped), 8):
                print(f"\tprio:{priority} dscp:" + "".join(f"{dscp:02d}," for dscp in mapped[start : start + 8]))
    print("Receive buffer size (bytes): 130944,130944,0,0,0,0,0,0,max_buffer_size=262016\nCable len: 7")
    flags = "   ".join(state["pfc"].split(","))
    print(f"PFC configuration:\n\tpriority    0   1   2   3   4   5   6   7\n\tenabled     {flags}   ")
    print(f"\tbuffer      {flags}   ")
    for number in range(8):
        print(f"tc: {number} ratelimit: unlimited, tsa: vendor\n\t priority:  {number}")
    return 0


def cma_roce_tos(view: View, arguments: list[str]) -> int:
    hca = arguments[arguments.index("-d") + 1] if "-d" in arguments else ""
    if hca not in {nic["hca"] for nic in sysfs.rdma_devices(view)}:
        print(f"Device {hca} not found", file=sys.stderr)
        return 1
    if "-t" in arguments:
        with core.changing() as now:
            now.state.setdefault("tos", {})[hca] = int(arguments[arguments.index("-t") + 1])
            view = now
    print(view.state.get("tos", {}).get(hca, 0))
    return 0
