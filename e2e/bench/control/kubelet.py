"""Pods that run nothing: bound, Ready after half a second, gone when they are deleted. For measurements whose subject is not the pods."""
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from benchlib import kubernetes

START_SECONDS = 0.5
WORKERS = 4
SELECTOR = '&labelSelector=cicada.dev/function'


class Kubelet:
    def __init__(self, api: kubernetes.Api):
        self.api, self.lock = api, threading.Lock()
        self.known: dict[str, int] = {}  # uid -> number, of which the address is made
        self.functions: set[str] = set()  # that had a pod since forget()
        self.workers = ThreadPoolExecutor(WORKERS)
        self.watch = kubernetes.Watch(api, '/api/v1/pods', self._seen, SELECTOR)

    def _seen(self, kind: str, pod: dict, _: float) -> None:
        meta = pod['metadata']
        path, uid = f'/api/v1/namespaces/{meta["namespace"]}/pods/{meta["name"]}', meta['uid']
        with self.lock:
            is_new = uid not in self.known
            self.known.setdefault(uid, len(self.known) + 2)
            if is_new:
                self.functions.add(meta['labels']['cicada.dev/function'])
        if kind == 'DELETED':
            return
        if meta.get('deletionTimestamp'):
            self.workers.submit(self.api.request, 'DELETE', path, {'gracePeriodSeconds': 0, 'preconditions': {'uid': uid}})
        elif is_new:
            self.workers.submit(self._start, path, meta, self.known[uid])

    def _start(self, path: str, meta: dict, number: int) -> None:
        self.api.request('POST', f'{path}/binding', {'apiVersion': 'v1', 'kind': 'Binding', 'metadata': {'name': meta['name']},
                                                     'target': {'apiVersion': 'v1', 'kind': 'Node', 'name': 'bench'}})
        time.sleep(START_SECONDS)
        address = f'10.244.{number >> 8}.{number & 255}'
        self.api.request('PATCH', f'{path}/status', {'metadata': {'uid': meta['uid']}, 'status': kubernetes.ready_status(address)},
                         'application/merge-patch+json')

    def forget(self) -> None:
        with self.lock:
            self.functions.clear()

    def stop(self) -> None:
        self.watch.stop()
        self.workers.shutdown(cancel_futures=True)
