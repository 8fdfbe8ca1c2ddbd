#!/usr/bin/env python3
"""The largest difference between an array of floats in two npz files; ends with 1 when it is more than allowed, or when
anything else differs: compare.py HERE THERE ARRAY LIMIT
"""
import array
import ast
import sys
import zipfile


def arrays(path):
    with zipfile.ZipFile(path) as archive:
        return {name[:-4]: archive.read(name) for name in archive.namelist()}


def floats(data):
    size = int.from_bytes(data[8:10], "little")
    header = ast.literal_eval(data[10:10 + size].decode("latin1").strip())
    assert header["descr"] == "<f4", header
    return header["shape"], array.array("f", data[10 + size:])


here, there, name, limit = arrays(sys.argv[1]), arrays(sys.argv[2]), sys.argv[3], float(sys.argv[4])
(shape, a), (other, b) = floats(here[name]), floats(there[name])
if here.keys() != there.keys():
    sys.exit("arrays: %s here, %s there" % (sorted(here), sorted(there)))
if shape != other:
    sys.exit("%s: %s here, %s there" % (name, shape, other))
exact = [key for key in here if b"'<f4'" not in here[key][:128] and here[key] != there[key]]
if exact:
    sys.exit("differ: %s" % exact)
differences = sorted(abs(x - y) for x, y in zip(a, b) if x != 0 or y != 0)
worst = differences[-1]
print("%s %s: median difference %.2g, largest %.2g, allowed %g" % (name, shape, differences[len(differences) // 2], worst, limit))
sys.exit(worst > limit)
