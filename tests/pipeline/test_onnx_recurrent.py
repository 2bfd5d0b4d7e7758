import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from aalbert.pipeline.onnx_recurrent import RecurrentOperator, replace_recurrent_layers


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_an_operator_computes_what_the_layer_does(kind: type[nn.GRU | nn.LSTM]) -> None:
    """In onnxruntime, from the weights and attributes that the operator is exported with."""
    torch.manual_seed(2)
    layers = nn.Sequential(kind(3, 4, batch_first=True))
    (layer,) = layers
    replace_recurrent_layers(layers)
    (operator,) = layers
    assert isinstance(operator, RecurrentOperator)
    constants = {
        "weights": operator.weights,
        "recurrent_weights": operator.recurrent_weights,
        "biases": operator.biases,
    }
    graph = helper.make_graph(
        [
            helper.make_node(
                operator.operator, ["frames", *constants], ["outputs"], **operator.attributes
            )
        ],
        "layer",
        [helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["time", "batch", 3])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, None)],
        [
            helper.make_tensor(name, TensorProto.FLOAT, value.shape, value.numpy().ravel())
            for name, value in constants.items()
        ],
    )
    opset = [helper.make_opsetid("", 20)]
    file = helper.make_model(graph, opset_imports=opset, ir_version=10)
    session = onnxruntime.InferenceSession(
        file.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    frames = torch.randn(2, 7, 3)
    (found,) = session.run(None, {"frames": frames.transpose(0, 1).numpy()})
    with torch.no_grad():
        expected = layer(frames)[0].numpy()
    np.testing.assert_allclose(found[:, 0].transpose(1, 0, 2), expected, atol=1e-6)
    assert operator(frames)[0].shape == expected.shape
