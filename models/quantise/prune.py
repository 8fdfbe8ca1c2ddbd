"""Drops the channels of the hand model that training has set to zero: more than half of those of its last four
blocks.

A depthwise channel whose weights are all zero and whose bias is not positive gives zeros after its ReLU6. The
operator before it computes the channel without use, and the one after it adds zeros. Without such channels the
results are equal to the last bit where a kernel adds the products of a sum in sequence. The kernels of convolutions
do; those of a head with one output do not, and its last digit changes.
"""
import numpy as np

from graph import (CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, MEAN, RELU6, code, compact, constant, tensor_like)


def zero_channels(model, operator):
    """Mask of the channels of a depthwise operator that give only zeros."""
    tensors = model.subgraphs[0].tensors
    weights, bias = (constant(model, i) for i in operator.inputs[1:3])
    unit, step = (tensors[i].quantization.scale if tensors[i].quantization else None for i in (operator.inputs[2], operator.outputs[0]))
    # An integer channel without weights has so small a unit that its largest bias rounds to zero.
    zero = bias <= 0 if unit is None else bias.astype("f8") * unit < step.astype("f8") / 2
    return ~weights.any((0, 1, 2)) & zero


def cut(model, operator, position, axis, stay):
    """Keeps only the channels `stay` of a constant input on `axis`, and their scales where each channel has one."""
    index = operator.inputs[position]
    values = np.ascontiguousarray(np.compress(stay, constant(model, index), axis))
    operator.inputs[position] = tensor_like(model, index, values, shape=list(values.shape))
    tensor = model.subgraphs[0].tensors[operator.inputs[position]]
    units = tensor.quantization
    if units and units.scale is not None and len(units.scale) == len(stay) and units.dimension == axis:
        tensor.quantization = type(units)(**{**vars(units), "scale": units.scale[stay], "zero_point": units.zero_point[stay]})


def narrow(model, index, stay):
    tensor = model.subgraphs[0].tensors[index]
    tensor.shape = [*tensor.shape[:-1], int(stay.sum())]


def prune(model, before_heads):
    """Removes zero channels from each depthwise operator and the operators before and after it; returns their number.

    before_heads: also from the last one, whose means the heads add up.
    """
    graph, dropped = model.subgraphs[0], 0
    for depthwise in graph.operators:
        if code(model, depthwise) != DEPTHWISE_CONV_2D or depthwise.options.activation != RELU6:
            continue
        stay = ~zero_channels(model, depthwise)
        before = [o for o in graph.operators if depthwise.inputs[0] in o.outputs]
        last = not any(code(model, o) == CONV_2D for o in graph.operators if depthwise.outputs[0] in o.inputs)
        if stay.all() or [code(model, o) for o in before] != [CONV_2D] or (last and not before_heads):
            continue
        dropped += int((~stay).sum())
        for operator, axis in (before[0], 0), (depthwise, 3):
            cut(model, operator, 1, axis, stay)
            cut(model, operator, 2, 0, stay)
            narrow(model, operator.outputs[0], stay)
        after = list(depthwise.outputs)
        for index in after:
            for operator in (o for o in graph.operators if index in o.inputs):
                if code(model, operator) == CONV_2D:
                    cut(model, operator, 1, 3, stay)
                elif code(model, operator) == FULLY_CONNECTED:
                    cut(model, operator, 1, 1, stay)
                else:
                    # MEAN and the borders between integer and float keep the channels.
                    narrow(model, operator.outputs[0], stay)
                    after += operator.outputs
    compact(model)
    return dropped
