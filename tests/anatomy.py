"""What the tests know of transformers' classes, from their sources and without headviz's tables.

A layer adds the attention's write to the residual stream. How much that is can be read off the
stream itself: what the next module reads, less what the layer was given.
"""

from contextlib import contextmanager

_PROJECTIONS = ("o_proj", "c_proj", "out_proj", "dense")
_OTHER_MIXERS = ("linear_attn", "conv", "mamba", "mlp", "feed_forward")
READERS = {
    "gpt2": "ln_2",
    "gpt_neo": "ln_2",
    "mpt": "norm_2",
    "opt": "final_layer_norm",
    "olmo2": "mlp",
    "gemma2": "pre_feedforward_layernorm",
    "gemma3_text": "pre_feedforward_layernorm",
    "lfm2": "ffn_norm",
    "jamba": "pre_ff_layernorm",
}
"""config.model_type -> the module that reads the stream right after attention, where it is not
`post_attention_layernorm`."""
ABREAST = {"gptj", "gpt_neox", "falcon", "phi", "cohere"}
"""Attention and MLP read the same stream side by side."""


def layers_of(transformer):
    """The decoder layers of a transformers model."""
    base = transformer.base_model
    base = getattr(base, "decoder", base)
    return next(
        list(layers)
        for name in ("layers", "h", "blocks")
        if (layers := getattr(base, name, None)) is not None
    )


def projection_in(layer):
    """The attention output projection of a layer; None where it has no attention."""
    found = [
        module
        for name, module in layer.named_modules()
        if name.split(".")[-1] in _PROJECTIONS and name.split(".")[0] not in _OTHER_MIXERS
    ]
    assert len(found) <= 1
    return found[0] if found else None


def attention_in(layer):
    """The attention module of a layer."""
    name = next(n for n, _ in layer.named_children() if "attn" in n or "attention" in n)
    return getattr(layer, name)


def is_abreast(transformer):
    """Whether attention and MLP of this model run side by side."""
    config = transformer.config
    flag = getattr(config, "parallel_attn", getattr(config, "use_parallel_residual", True))
    return config.model_type in ABREAST and flag


@contextmanager
def stream_after_attention(transformer, record):
    """While open, `record(layer, what attention has added to the stream)`."""
    given, handles = {}, []
    abreast = is_abreast(transformer)
    reader = READERS.get(transformer.config.model_type, "post_attention_layernorm")

    def first(inputs, keywords):
        return inputs[0] if inputs else keywords["hidden_states"]

    def hooks_of(number):
        def enter(_, inputs, keywords):
            given[number] = first(inputs, keywords)

        def read(_, inputs, keywords):
            # OPT lays its rows end to end there.
            record(number, first(inputs, keywords).view_as(given[number]) - given[number])

        def keep_mlp(_, inputs, output):
            given[number] = given[number] + (output[0] if isinstance(output, tuple) else output)

        def leave(_, inputs, output):
            out = output[0] if isinstance(output, tuple) else output
            record(number, out - given[number])

        return enter, read, keep_mlp, leave

    try:
        for number, layer in enumerate(layers_of(transformer)):
            enter, read, keep_mlp, leave = hooks_of(number)
            handles.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
            if abreast:
                handles.append(layer.mlp.register_forward_hook(keep_mlp))
                handles.append(layer.register_forward_hook(leave))
            else:
                module = getattr(layer, reader)
                handles.append(module.register_forward_pre_hook(read, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
