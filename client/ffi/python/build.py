#!/usr/bin/env python3
"""Makes the Python module `ringpost`: the library, and the binding that UniFFI writes for it. Needs nothing but Rust.

    python3 client/ffi/python/build.py OUT

writes OUT/ringpost.py and the library beside it. With --library and --bindgen nothing is built, for who has done so.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
# A panic in it must reach the application as an exception.
PROFILE = "phone"


def name_of_library():
    return {"darwin": "libringpost_ffi.dylib", "win32": "ringpost_ffi.dll"}.get(sys.platform, "libringpost_ffi.so")


def cargo(*arguments):
    """Runs cargo, and gives the files that it made."""
    command = ["cargo", *arguments, "--locked", "--message-format=json-render-diagnostics"]
    lines = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    made = [json.loads(line) for line in lines]
    return [pathlib.Path(file) for of in made if of.get("reason") == "compiler-artifact" for file in of["filenames"]]


def build_library():
    files = cargo("build", "-p", "ringpost-ffi", "--lib", "--profile", PROFILE)
    return next(file for file in files if file.name == name_of_library())


def build_bindgen():
    files = cargo("build", "-p", "ringpost-ffi", "--features", "bindgen", "--bin", "uniffi-bindgen")
    return next(file for file in files if file.stem == "uniffi-bindgen")


def main():
    parser = argparse.ArgumentParser(description="Makes the Python module `ringpost`.")
    parser.add_argument("out", type=pathlib.Path, help="the folder that it is written to")
    parser.add_argument("--library", type=pathlib.Path, help="the library, if it is built")
    parser.add_argument("--bindgen", type=pathlib.Path, help="the generator, if it is built")
    arguments = parser.parse_args()
    library = arguments.library or build_library()
    bindgen = arguments.bindgen or build_bindgen()
    arguments.out.mkdir(parents=True, exist_ok=True)
    generate = [bindgen, "generate", "--language", "python", "--no-format", "--out-dir", arguments.out, library]
    subprocess.run(generate, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    shutil.copy(library, arguments.out / name_of_library())
    print(f"import ringpost  # from {arguments.out}")


main()
