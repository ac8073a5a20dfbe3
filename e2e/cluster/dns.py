#!/usr/bin/python3
"""The cluster's DNS: answers from the API server's Services and Endpoints, by Kubernetes' DNS specification.

dns.py --listen ADDRESS --api HOST:PORT --ca FILE --certificate FILE --key FILE --ready FILE

    SERVICE.NAMESPACE.svc.cluster.local          A: the cluster IP; of a headless Service all ready addresses
                                                 (Kubernetes puts unready ones there too, where the Service
                                                 says publishNotReadyAddresses); of an ExternalName a CNAME,
                                                 and the target's addresses when the target is one of ours
    HOSTNAME.SERVICE.NAMESPACE.svc.cluster.local A: one address of a headless Service, by the pod's hostname
                                                 or by the address with dashes

Other types of a name that exists get an empty answer, names that do not exist NXDOMAIN, and so does
the rest of the world: the cluster has no way out. No SRV and PTR records.

Two threads keep what they watch in two dictionaries; an answer is looked up in them when it is asked
for. So a change costs the decoding of one line and is in force with that. While the API server is
away the last known state is served.
"""
import argparse
import http.client
import json
import random
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time

DOMAIN = ("svc", "cluster", "local")
TTL = 1
A, CNAME, SOA, OPT, ANY, IN = 1, 5, 6, 41, 255, 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP = 0, 1, 2, 3, 4


class Collection:
    """One kind of API object, as a dictionary from (namespace, name) to what `project` keeps of it."""

    def __init__(self, options, path, project):
        self.options, self.path, self.project = options, path, project
        self.items = {}
        self.synced = threading.Event()
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        while True:
            try:
                self.list_and_watch()
            except Exception as error:  # whatever it was: the list is read again
                print(f"{self.path}: {type(error).__name__}: {error}", flush=True)
            time.sleep(0.1)

    def request(self, query):
        context = ssl.create_default_context(cafile=self.options.ca)
        context.load_cert_chain(self.options.certificate, self.options.key)
        connection = http.client.HTTPSConnection(self.options.api, context=context, timeout=400)
        connection.request("GET", self.path + query, headers={"Accept": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}")
        return connection, response

    def list_and_watch(self):
        connection, response = self.request("")
        answer = json.load(response)
        connection.close()
        self.items = {self.key(item): self.project(item) for item in answer["items"]}
        self.synced.set()
        version = answer["metadata"]["resourceVersion"]
        while True:  # a watch ends in good order every few minutes and is then continued
            connection, response = self.request(
                f"?watch=1&allowWatchBookmarks=true&timeoutSeconds=300&resourceVersion={version}")
            while line := response.readline():
                event = json.loads(line)
                item = event["object"]
                if event["type"] == "ERROR":
                    raise RuntimeError(item.get("message", "watch error"))
                version = item["metadata"]["resourceVersion"]
                if event["type"] == "DELETED":
                    self.items.pop(self.key(item), None)
                elif event["type"] != "BOOKMARK":
                    self.items[self.key(item)] = self.project(item)
            connection.close()

    @staticmethod
    def key(item):
        return item["metadata"]["namespace"], item["metadata"]["name"]


def project_service(item):
    spec = item["spec"]
    if spec.get("type") == "ExternalName":
        return "external", spec.get("externalName", "").rstrip(".").lower()
    if spec.get("clusterIP") in (None, "", "None"):
        return "headless", None
    return "address", spec["clusterIP"]


def project_endpoints(item):
    """All ready addresses, and the same by host name."""
    addresses, hosts = [], {}
    for subset in item.get("subsets") or []:
        for address in subset.get("addresses") or []:
            ip = address["ip"]
            if ":" in ip:
                continue
            addresses.append(ip)
            for host in {address.get("hostname") or ip.replace(".", "-"), ip.replace(".", "-")}:
                hosts.setdefault(host.lower(), []).append(ip)
    return sorted(set(addresses)), hosts


class Zone:
    def __init__(self, options):
        self.services = Collection(options, "/api/v1/services", project_service)
        self.endpoints = Collection(options, "/api/v1/endpoints", project_endpoints)

    def wait(self):
        self.services.synced.wait()
        self.endpoints.synced.wait()

    def resolve(self, name, depth=0):
        """(result code, [(type, value)]) of a name given as a tuple of lower-case labels.

        A CNAME's value is the target's name, an A's the address.
        """
        if name[-3:] != DOMAIN:
            inner = name == DOMAIN[-len(name):]  # cluster.local and local: nothing at them, but names below
            return (NOERROR if inner else NXDOMAIN), []
        labels = name[:-3]
        if not labels:
            return NOERROR, []
        if len(labels) == 1:
            return (NOERROR if any(key[0] == labels[0] for key in list(self.services.items)) else NXDOMAIN), []
        key = labels[-1], labels[-2]
        service = self.services.items.get(key)
        if service is None or len(labels) > 3:
            return NXDOMAIN, []
        kind, value = service
        if len(labels) == 3:
            hosts = self.endpoints.items.get(key, ([], {}))[1] if kind == "headless" else {}
            addresses = hosts.get(labels[0])
            return (NOERROR, [(A, ip) for ip in addresses]) if addresses else (NXDOMAIN, [])
        if kind == "address":
            return NOERROR, [(A, value)] if ":" not in value else []
        if kind == "headless":
            addresses = list(self.endpoints.items.get(key, ([], {}))[0])
            random.shuffle(addresses)
            return (NOERROR if addresses else NXDOMAIN), [(A, ip) for ip in addresses]
        target = tuple(value.split("."))
        records = [(CNAME, target)]
        if depth < 8:
            records += self.resolve(target, depth + 1)[1]
        return NOERROR, records


def encode_name(labels):
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def record(owner, kind, data, ttl=TTL):
    return owner + struct.pack(">HHIH", kind, IN, ttl, len(data)) + data


def answer(zone, query, limit):
    """The reply to one query. `limit`: the largest reply that may be sent, None over TCP."""
    identity, flags, questions, _, _, extras = struct.unpack_from(">6H", query)
    if flags & 0x8000:
        return None  # an answer, not a question
    labels, position = [], 12
    while (length := query[position]) != 0:
        if length > 63:
            raise ValueError("compressed or overlong name in a question")
        labels.append(query[position + 1:position + 1 + length].decode("latin-1").lower())
        position += 1 + length
    kind, klass = struct.unpack_from(">HH", query, position + 1)
    end = position + 5
    question = query[12:end]

    extended = b""
    if extras and query[end:end + 3] == b"\0\0\x29":  # EDNS: the client says what it takes
        if limit is not None:
            limit = max(limit, min(struct.unpack_from(">H", query, end + 3)[0], 1232))
        extended = b"\0" + struct.pack(">HHIH", OPT, 1232, 0, 0)

    code, records, authority = NOTIMP, b"", b""
    count, truncated = 0, 0
    if flags >> 11 & 15 == 0 and questions == 1:
        code, found = zone.resolve(tuple(labels)) if labels else (NXDOMAIN, [])
        owner = b"\xc0\x0c"  # the name in the question
        for record_kind, value in found:
            if record_kind == CNAME:
                records += record(owner, CNAME, encode_name(value))
                owner = encode_name(value)
                count += 1
            elif klass == IN and kind in (A, ANY):
                records += record(owner, A, socket.inet_aton(value))
                count += 1
        if not count:
            suffix = encode_name(DOMAIN[1:])
            authority = record(suffix, SOA, b"\2ns\3dns" + suffix + b"\x0ahostmaster" + suffix
                               + struct.pack(">5I", 1, 7200, 1800, 86400, TTL), TTL)
    size = 12 + len(question) + len(records) + len(authority) + len(extended)
    if limit is not None and size > limit:  # the client asks again over TCP
        records = authority = b""
        count, truncated = 0, 0x0200
    header = struct.pack(">6H", identity, 0x8480 | truncated | flags & 0x7900 | code,
                         1, count, 1 if authority else 0, 1 if extended else 0)
    return header + question + records + authority + extended


def reply(zone, query, limit):
    try:
        return answer(zone, query, limit)
    except (ValueError, IndexError, struct.error):
        if len(query) < 12:
            return None
        return query[:2] + struct.pack(">5H", 0x8000 | FORMERR, 0, 0, 0, 0)


class TcpHandler(socketserver.StreamRequestHandler):
    timeout = 10

    def handle(self):
        try:
            while len(length := self.rfile.read(2)) == 2:
                result = reply(self.server.zone, self.rfile.read(struct.unpack(">H", length)[0]), None)
                if result is None:
                    return
                self.wfile.write(struct.pack(">H", len(result)) + result)
        except OSError:
            pass


class TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for option in ("listen", "api", "ca", "certificate", "key", "ready"):
        parser.add_argument("--" + option, required=True)
    options = parser.parse_args()
    sys.setswitchinterval(0.001)  # an answer does not wait for the decoding of a long list

    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    udp.bind((options.listen, 53))
    tcp = TcpServer((options.listen, 53), TcpHandler)
    zone = tcp.zone = Zone(options)
    zone.wait()
    threading.Thread(target=tcp.serve_forever, daemon=True).start()
    with open(options.ready, "w"):
        pass
    while True:
        query, sender = udp.recvfrom(4096)
        result = reply(zone, query, 512)
        if result is not None:
            try:
                udp.sendto(result, sender)
            except OSError as error:
                print(f"to {sender[0]}: {error}", flush=True)


main()
