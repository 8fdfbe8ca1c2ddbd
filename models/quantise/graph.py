"""Shared by the quantiser's steps: numbers of operators and types, access to constants, removal of unused parts."""
from types import SimpleNamespace

import numpy as np

from flatbuffer import table

ADD, CONCATENATION, CONV_2D, DEPTHWISE_CONV_2D, DEQUANTIZE, FULLY_CONNECTED, LOGISTIC = 0, 2, 3, 4, 6, 9, 14
MAX_POOL_2D, RESHAPE, RESIZE_BILINEAR, PAD, MEAN, PRELU, QUANTIZE = 17, 22, 23, 34, 40, 54, 114
FLOAT32, FLOAT16, INT32, INT8 = 0, 1, 2, 9
RELU6 = 3
NUMPY = {FLOAT32: "<f4", FLOAT16: "<f2", INT32: "<i4", INT8: "i1"}
# The axis of the output channels in the weights of an operator.
WEIGHTS = {CONV_2D: 0, DEPTHWISE_CONV_2D: 3, FULLY_CONNECTED: 0}


def code(model, operator):
    """The operator's number; old files have it in one field, new files in the other."""
    entry = model.operator_codes[operator.code]
    return max(entry.builtin_code, entry.deprecated_builtin_code)


def activations(graph):
    """The indices of the tensors that hold no constant."""
    return set(graph.inputs) | {i for operator in graph.operators for i in operator.outputs}


def constant(model, index):
    """The value of the constant tensor `index`."""
    tensor = model.subgraphs[0].tensors[index]
    return np.frombuffer(model.buffers[tensor.buffer].data, NUMPY[tensor.type]).reshape(tensor.shape)


def buffer(model, values):
    """The index of a new buffer with `values`."""
    model.buffers.append(table("Buffer", data=np.frombuffer(values.tobytes(), "u1")))
    return len(model.buffers) - 1


def tensor_like(model, base, values=None, **changes):
    """The index of a new tensor: the tensor `base` with other values, type, name or quantization."""
    tensors = model.subgraphs[0].tensors
    changes.update({} if values is None else {"buffer": buffer(model, values)})
    tensors.append(SimpleNamespace(**{**vars(tensors[base]), **changes}))
    return len(tensors) - 1


def operator_code(model, number, version):
    """The index of the operator `number` of at least `version`, added where the model has none."""
    for index, entry in enumerate(model.operator_codes):
        if max(entry.builtin_code, entry.deprecated_builtin_code) == number and entry.version >= version:
            return index
    model.operator_codes.append(
        table("OperatorCode", builtin_code=number, deprecated_builtin_code=min(number, 127), version=version))
    return len(model.operator_codes) - 1


def compact(model):
    """Drops tensors, buffers and operator codes that nothing uses; the order of the rest stays."""
    graph = model.subgraphs[0]
    used = set(graph.inputs) | set(graph.outputs)
    for operator in graph.operators:
        used |= {i for i in operator.inputs if i >= 0} | set(operator.outputs)
    place = {old: new for new, old in enumerate(sorted(used))}
    place[-1] = -1
    renumber = lambda indices: [place[i] for i in indices]
    graph.tensors = [graph.tensors[i] for i in sorted(used)]
    graph.inputs, graph.outputs = renumber(graph.inputs), renumber(graph.outputs)
    for operator in graph.operators:
        operator.inputs, operator.outputs = renumber(operator.inputs), renumber(operator.outputs)
    # By convention the first buffer is empty.
    buffers, moved = [model.buffers[0]], {0: 0}
    for tensor in graph.tensors:
        if tensor.buffer not in moved:
            moved[tensor.buffer] = len(buffers)
            buffers.append(model.buffers[tensor.buffer])
        tensor.buffer = moved[tensor.buffer]
    model.buffers = buffers
    codes = sorted({operator.code for operator in graph.operators})
    model.operator_codes = [model.operator_codes[i] for i in codes]
    for operator in graph.operators:
        operator.code = codes.index(operator.code)


def fold(model):
    """Replaces each f16 constant and its DEQUANTIZE by an f32 constant. Every f16 is an f32: nothing is rounded."""
    graph, kept = model.subgraphs[0], []
    for operator in graph.operators:
        if code(model, operator) == DEQUANTIZE:
            graph.tensors[operator.outputs[0]].buffer = buffer(model, constant(model, operator.inputs[0]).astype("<f4"))
        else:
            kept.append(operator)
    graph.operators = kept
    model.description = b"folded to f32"
    compact(model)
