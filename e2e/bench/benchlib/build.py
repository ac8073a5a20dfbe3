"""What has to be built before it can be measured; all under build/bench."""
import os
import pathlib
import shutil
import socket
import subprocess

OUT = pathlib.Path('build/bench').resolve()
HERE = pathlib.Path('e2e/bench')


def run(*command: object, **options: object) -> str:
    """Its standard output. What it says is shown only if it fails."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          **options)
    if done.returncode != 0:
        raise RuntimeError(f'{" ".join(map(str, command))}: {(done.stderr or done.stdout)[-1500:]}')
    return done.stdout


def is_newer(target: pathlib.Path, *sources: pathlib.Path) -> bool:
    return target.exists() and all(target.stat().st_mtime >= source.stat().st_mtime for source in sources)


def c_program(source: pathlib.Path, *libraries: str) -> pathlib.Path:
    target = OUT / source.stem
    if not is_newer(target, source):
        run('cc', '-std=gnu11', '-O2', '-g', '-Wall', '-Wextra', '-Werror',
            '-o', target, source, '-pthread', *[f'-l{library}' for library in libraries])
    return target


def function(source: pathlib.Path) -> pathlib.Path:
    """A shared object against the SDK's header alone, as a user builds it."""
    sdk = pathlib.Path('runtime/sdk')
    target = OUT / 'functions' / f'{source.stem}.so'
    target.parent.mkdir(parents=True, exist_ok=True)
    if not is_newer(target, source, sdk / 'cicada/function.h'):
        run('cc', '-std=c11', '-O2', '-g', '-Wall', '-Wextra', '-Werror', '-fPIC', '-shared', '-fvisibility=hidden',
            '-Wl,-z,defs', f'-I{sdk}', '-o', target, source)
    return target


def go_program(source: pathlib.Path) -> pathlib.Path:
    target = OUT / source.stem
    if not is_newer(target, source):
        run('go', 'build', '-o', target, source,
            env={**os.environ, 'GO111MODULE': 'off', 'GOFLAGS': '', 'GOCACHE': str(OUT / 'go-cache')})
    return target


def node_folder(source: pathlib.Path) -> pathlib.Path:
    """A copy of the folder with the packages of its lock file installed, from the registry that npm is set to."""
    target = OUT / 'node' / source.name
    target.mkdir(parents=True, exist_ok=True)
    for path in [*source.glob('*.js'), source / 'package.json']:
        shutil.copy2(path, target / path.name)
    lock, installed = source / 'package-lock.json', target / 'package-lock.json'
    if not (target / 'node_modules').exists() or not installed.exists() or lock.read_text() != installed.read_text():
        shutil.copy2(lock, installed)
        run('npm', 'ci', '--no-audit', '--no-fund', '--omit=dev', cwd=target)
    return target


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]
