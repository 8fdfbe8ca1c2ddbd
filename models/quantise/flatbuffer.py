"""Reads and writes .tflite files, with the part of TensorFlow Lite's schema that the two hand models use."""
import struct
from types import SimpleNamespace

import flatbuffers
import numpy as np

# Fields in the order of their slots in the schema: name:type, and =DEFAULT where that is not 0. A field of type `-` is
# neither read nor written. [T] is a vector. `options` is the union of the tables in OPTIONS.
TABLES = {name: [field.partition(":")[::2] for field in fields.split()] for name, fields in {
    "Model": "version:u32 operator_codes:[OperatorCode] subgraphs:[SubGraph] description:string buffers:[Buffer]",
    "OperatorCode": "deprecated_builtin_code:i8 custom_code:string version:i32=1 builtin_code:i32",
    "SubGraph": "tensors:[Tensor] inputs:[i32] outputs:[i32] operators:[Operator] name:string",
    "Tensor": "shape:[i32] type:i8 buffer:u32 name:string quantization:Quantization",
    "Quantization": "min:[f32] max:[f32] scale:[f32] zero_point:[i64] details_type:- details:- dimension:i32",
    "Operator": "code:u32 inputs:[i32] outputs:[i32] options_type:u8 options:options",
    "Buffer": "data:[u8]",
    "Conv2D": "padding:i8 stride_w:i32 stride_h:i32 activation:i8 dilation_w:i32=1 dilation_h:i32=1",
    "DepthwiseConv2D": "padding:i8 stride_w:i32 stride_h:i32 multiplier:i32 activation:i8 dilation_w:i32=1 dilation_h:i32=1",
    "Pool2D": "padding:i8 stride_w:i32 stride_h:i32 filter_w:i32 filter_h:i32 activation:i8",
    "FullyConnected": "activation:i8 weights_format:i8 keep_dimensions:bool",
    "Concatenation": "axis:i32 activation:i8",
    "Add": "activation:i8 power_of_two_int16:bool=1",
    "ResizeBilinear": "new_height:- new_width:- align_corners:bool half_pixel_centers:bool",
    "Reshape": "new_shape:[i32]",
    "Mul": "activation:i8",
    "Pad": "",
    "Reducer": "keep_dimensions:bool",
}.items()}
OPTIONS = {1: "Conv2D", 2: "DepthwiseConv2D", 5: "Pool2D", 8: "FullyConnected", 10: "Concatenation", 11: "Add",
           15: "ResizeBilinear", 17: "Reshape", 21: "Mul", 22: "Pad", 27: "Reducer"}
SCALARS = {"i8": "b", "u8": "B", "bool": "?", "i32": "i", "u32": "I"}
VECTORS = {"[i32]": "<i4", "[f32]": "<f4", "[i64]": "<i8", "[u8]": "u1"}
ADDERS = {"i8": "Int8", "u8": "Uint8", "bool": "Bool", "i32": "Int32", "u32": "Uint32"}


def _default(kind):
    """The type without its default, and the value of a field that the file omits."""
    kind, _, value = kind.partition("=")
    return kind, (int(value or 0) if kind in SCALARS else None)


def table(name, **fields):
    """A table with `fields`, and the schema's defaults for the others."""
    values = {field: _default(kind)[1] for field, kind in TABLES[name]}
    return SimpleNamespace(**{**values, **fields})


class _Reader:
    def __init__(self, data):
        self.data = data

    def number(self, letter, at):
        return struct.unpack_from("<" + letter, self.data, at)[0]

    def follow(self, at):
        return at + self.number("I", at)

    def field(self, kind, at, owner):
        if kind in SCALARS:
            return self.number(SCALARS[kind], at)
        start = self.follow(at)
        if kind == "options":
            if owner.options_type not in OPTIONS:
                raise ValueError("operator options of type %d are not in the schema of models/quantise" % owner.options_type)
            return self.table(OPTIONS[owner.options_type], start)
        if kind in TABLES:
            return self.table(kind, start)
        length = self.number("I", start)
        if kind == "string":
            return bytes(self.data[start + 4:start + 4 + length])
        if kind in VECTORS:
            values = np.frombuffer(self.data, VECTORS[kind], length, start + 4)
            return values.tolist() if kind == "[i32]" else values
        return [self.table(kind[1:-1], self.follow(start + 4 + 4 * i)) for i in range(length)]

    def table(self, name, at):
        slots = at - self.number("i", at)
        size = self.number("H", slots)
        result = table(name)
        for index, (field, kind) in enumerate(TABLES[name]):
            kind = _default(kind)[0]
            place = 4 + 2 * index
            offset = self.number("H", slots + place) if place < size else 0
            if offset and kind != "-":
                setattr(result, field, self.field(kind, at + offset, result))
        return result


def read(path):
    """The model in the file `path`, as nested tables."""
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise ValueError("%s is no .tflite file" % path)
    reader = _Reader(data)
    return reader.table("Model", reader.follow(0))


def _write(builder, name, values):
    """Writes what a table refers to, then the table: the order of flatbuffers' generated code, so the bytes are
    equal."""
    ready = {}
    for field, kind in TABLES[name]:
        kind = _default(kind)[0]
        value = getattr(values, field)
        if kind in SCALARS or value is None:
            continue
        if kind == "string":
            ready[field] = builder.CreateString(value)
        elif kind in VECTORS:
            ready[field] = builder.CreateNumpyVector(np.ascontiguousarray(value, VECTORS[kind]))
        elif kind == "options":
            ready[field] = _write(builder, OPTIONS[values.options_type], value)
        elif kind in TABLES:
            ready[field] = _write(builder, kind, value)
        else:
            items = [_write(builder, kind[1:-1], item) for item in value]
            builder.StartVector(4, len(items), 4)
            for item in reversed(items):
                builder.PrependUOffsetTRelative(item)
            ready[field] = builder.EndVector()
    builder.StartObject(len(TABLES[name]))
    for slot, (field, kind) in enumerate(TABLES[name]):
        kind, default = _default(kind)
        if kind in SCALARS:
            getattr(builder, "Prepend%sSlot" % ADDERS[kind])(slot, getattr(values, field), default)
        elif field in ready:
            builder.PrependUOffsetTRelativeSlot(slot, ready[field], 0)
    return builder.EndObject()


def pack(model):
    """The bytes of the .tflite file of `model`."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(_write(builder, "Model", model), b"TFL3")
    return bytes(builder.Output())
