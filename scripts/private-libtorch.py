#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes a copy of the plugin that bears another torch in its process, such as that of a Python program.

    scripts/private-libtorch.py FOLDER [--plugin target/release/libgstgclip.so]

FOLDER/plugin is what GST_PLUGIN_PATH takes; FOLDER/lib is a libtorch (for CPUs) that no other can be mistaken for. Elsewhere
the dynamic linker takes whichever libtorch came first for all of them, as all have the same names. Here the two
libraries have names of the same length of their own, in the files' names and within them; and symbols that the linker would make
one in the whole process (STB_GNU_UNIQUE: static data of C++ templates) are weak ones, each library's own.
"""
import argparse, mmap, pathlib, shutil, struct, subprocess, sys, tempfile

# As long as those that they replace: they are written in their places.
NAMES = {b"libtorch_cpu.so": b"libgclip_cpu.so", b"libc10.so": b"libgc0.so"}
# What it needs of others; their names carry a version.
BESIDE = ["libgomp.so.1", "libcudart.so.", "libcupti.so."]
FROM_PLUGIN, FROM_LIBRARY = b"$ORIGIN/../lib", b"$ORIGIN"

DYNAMIC, DYNSYM = 6, 11  # kinds of sections
NEEDED, SONAME, RPATH, RUNPATH = 1, 14, 15, 29  # entries of the first
UNIQUE, WEAK = 10, 2  # bindings of a symbol


def stop(why):
    sys.exit(f"private-libtorch: {why}")


def libraries(plugin):
    """The file of each library that the plugin is linked with, by name, as the dynamic linker finds it."""
    found = subprocess.run(["ldd", plugin], capture_output=True, text=True)
    lines = [line.split() for line in found.stdout.splitlines()]
    files = {words[0]: pathlib.Path(words[2]) for words in lines if len(words) > 2 and words[2].startswith("/")}
    if "libtorch_cpu.so" not in files:
        stop(f"{plugin} is linked with no libtorch that is here: give a plugin that works (--plugin)")
    return files


def rename(path, runpath):
    """Gives what is written in the file names of its own; `runpath` is where it finds what it needs."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        if data[:6] != b"\x7fELF\x02\x01":
            stop(f"{path} is no library for 64 bits, little-endian")
        (at,), (count,) = struct.unpack_from("<Q", data, 0x28), struct.unpack_from("<H", data, 0x3C)
        sections = [struct.unpack_from("<IIQQQQIIQQ", data, at + 64 * number) for number in range(count)]
        for _, kind, _, _, offset, size, link, _, _, _ in sections:
            if kind == DYNSYM:
                for symbol in range(offset, offset + size, 24):
                    if data[symbol + 4] >> 4 == UNIQUE:
                        data[symbol + 4] = WEAK << 4 | data[symbol + 4] & 15
            if kind != DYNAMIC:
                continue
            names = sections[link][4]
            for entry in range(offset, offset + size, 16):
                tag, value = struct.unpack_from("<qQ", data, entry)
                begin = names + value
                if tag in (NEEDED, SONAME):
                    end = data.find(b"\0", begin)
                    data[begin:end] = NAMES.get(data[begin:end], data[begin:end])
                if tag in (RPATH, RUNPATH):
                    end = data.find(b"\0", begin)
                    if end - begin < len(runpath):
                        stop(f"{path} has no room for the place of its libraries")
                    data[begin : begin + len(runpath) + 1] = runpath + b"\0"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    root = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--plugin", type=pathlib.Path, default=root / "target/release/libgstgclip.so")
    arguments = parser.parse_args()
    if not arguments.plugin.exists():
        stop(f"there is no {arguments.plugin}: build it (cargo build --release), or name another by --plugin")
    files = libraries(arguments.plugin)
    folder = arguments.folder.resolve()
    if folder.exists() and not (folder / "lib/libgclip_cpu.so").exists() and any(folder.iterdir()):
        stop(f"{folder} holds something else: name a folder that is empty or not there yet")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that what is there is whole, and nothing of it stays where this stops.
    with tempfile.TemporaryDirectory(prefix=folder.name + ".", dir=folder.parent) as work:
        made = pathlib.Path(work) / "made"
        (made / "plugin").mkdir(parents=True)
        (made / "lib").mkdir()
        copies = [(arguments.plugin, "plugin/libgstgclip.so", FROM_PLUGIN)]
        copies += [(files[old.decode()], "lib/" + new.decode(), FROM_LIBRARY) for old, new in NAMES.items()]
        for source, name, runpath in copies:
            shutil.copyfile(source, made / name)
            rename(made / name, runpath)
        for name, file in files.items():
            if name.startswith(tuple(BESIDE)):
                shutil.copyfile(file, made / "lib" / name)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    print(f"private-libtorch: ready: GST_PLUGIN_PATH={folder}/plugin")


main()
