"""Drops the channels of the hand model that training has set to zero: more than half of its last four blocks.

A depthwise channel whose weights are all zero gives a constant: its bias, cut by the ReLU6. The operator before it computes
that channel for nothing, and the one after it multiplies a constant.
"""
import numpy as np

from graph import (CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, MEAN, RELU6, code, compact, constant, tensor_like)


def dead_channels(model, only_zero):
    """By number of the depthwise operator, which channels are constant; with `only_zero`, constantly 0."""
    found = {}
    for number, operator in enumerate(model.subgraphs[0].operators):
        if code(model, operator) == DEPTHWISE_CONV_2D and operator.options.activation == RELU6:
            weights, bias = (constant(model, i) for i in operator.inputs[1:3])
            dead = ~np.abs(weights).any((0, 1, 2)) & ((bias <= 0) | (not only_zero))
            if dead.any():
                found[number] = dead
    return found


def prune(model, only_zero):
    """Takes dead channels out of the depthwise operator, the one before it and those after it.

    With `only_zero` the model's results stay the same to the last bit, as far as a kernel adds products one after another.
    Returns by number of the operator which channels of its output stay.
    """
    graph, kept = model.subgraphs[0], {}

    def cut(operator, position, axis, stay):
        index = operator.inputs[position]
        values = np.ascontiguousarray(np.compress(stay, constant(model, index), axis))
        operator.inputs[position] = tensor_like(model, index, values, shape=np.array(values.shape, "<i4"))

    def narrow(index, stay):
        tensor = graph.tensors[index]
        tensor.shape = np.array([*tensor.shape[:-1], stay.sum()], "<i4")

    for number, dead in dead_channels(model, only_zero).items():
        depthwise, stay = graph.operators[number], ~dead
        [before] = [o for o in graph.operators if depthwise.inputs[0] in o.outputs]
        after = [o for o in graph.operators if depthwise.outputs[0] in o.inputs]
        if [o for o in graph.operators if before.outputs[0] in o.inputs] != [depthwise] or code(model, before) != CONV_2D:
            continue
        cut(before, 1, 0, stay)
        cut(before, 2, 0, stay)
        cut(depthwise, 1, 3, stay)
        cut(depthwise, 2, 0, stay)
        narrow(before.outputs[0], stay)
        narrow(depthwise.outputs[0], stay)
        kept[graph.operators.index(before)] = kept[number] = stay
        for operator in after:
            if code(model, operator) == MEAN:
                kept[graph.operators.index(operator)] = stay
                narrow(operator.outputs[0], stay)
                after += [o for o in graph.operators if operator.outputs[0] in o.inputs]
            else:
                cut(operator, 1, 1 if code(model, operator) == FULLY_CONNECTED else 3, stay)
    compact(model)
    return kept
