"""Everybody's checkpoints: random weights of timm, torchvision and Hugging Face give their own numbers when read back.

Small models, built in memory; nothing is downloaded. Meta's names are written from the others'.
"""

import argparse
import json
import random
import re
import warnings

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision.models.vision_transformer as torchvision_vit
import transformers
from command_line import python_m
from safetensors.torch import save_file
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import nn

from vit_edu import VisionTransformer
from vit_edu.families import recognise
from vit_edu.weights import load_checkpoint, load_model, save_weights

warnings.filterwarnings("ignore", module="transformers")
NATIVE, LARGER = (40, 40), (48, 56)


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter random; scales around 1, LayerScale's too, where a mistake would show."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith(("gamma", "lambda1")) or (p.ndim == 1 and name.endswith("weight")):
            p.data = 1 + 0.3 * noise
        else:
            p.data = 0.1 * noise
    return model.eval()


def images(size: tuple[int, int], n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(1))


def timms(cls=TimmViT, **options) -> nn.Module:
    """Width 128, so that two heads are the convention's."""
    size = dict(img_size=NATIVE, patch_size=8, num_classes=5, embed_dim=128, depth=2, num_heads=2, mlp_ratio=2)
    return randomised(cls(dynamic_img_size=True, **(size | options)))


SMALL = dict(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=40, patch_size=8, num_labels=5)


def hugging(name: str, config: str, **options) -> nn.Module:
    ratio = dict(mlp_ratio=2) if "Dinov2" in config else dict(intermediate_size=256)
    decoder = dict(decoder_hidden_size=32, decoder_num_hidden_layers=1, decoder_num_attention_heads=2)
    more = dict(decoder, decoder_intermediate_size=64, mask_ratio=0.0) if "MAE" in config else {}
    settings = getattr(transformers, config)(**SMALL, **ratio, **more)
    return randomised(getattr(transformers, name)(settings, **options))


def of_hugging_face(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Logits, or the class token of a model without a head."""
    out = model(x, interpolate_pos_encoding=True)
    if "cls_logits" in out:
        return out.cls_logits
    return out.logits if "logits" in out else out.last_hidden_state[:, 0]


def of_mae(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """MAE shuffles its patches, also those that it keeps; in order, if the noise is."""
    encoder = getattr(model, "vit", model)
    n = (x.shape[2] // 8) * (x.shape[3] // 8)
    noise = torch.arange(n).float().expand(len(x), n)
    return encoder(x, noise=noise, interpolate_pos_encoding=True).last_hidden_state[:, 0]


def of_distilled(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model.head(model.forward_features(x)[:, 0])


def call(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model(x)


MEAN = dict(global_pool="avg", class_token=False)
FAMILIES = {    # name: (their model, their answer, can it take another size)
    "timm": (lambda: timms(), call),
    "timm, no head (DINO, MAE)": (lambda: timms(num_classes=0), call),
    "timm, DeiT III": (lambda: timms(init_values=1e-4, no_embed_class=True), call),
    "timm, DINOv2": (lambda: timms(init_values=1e-4, num_classes=0), call),
    "timm, DINOv2, registers":
        (lambda: timms(init_values=1e-4, num_classes=0, reg_tokens=4, no_embed_class=True), call),
    "timm, wee": (lambda: timms(init_values=1e-4, reg_tokens=1, no_embed_class=True, **MEAN), call),
    "timm, mean, norm before": (lambda: timms(init_values=1e-4, fc_norm=False, qkv_bias=False, **MEAN), call),
    "timm, a class token unread": (lambda: timms(global_pool="avg"), call),
    "timm, DeiT distilled": (lambda: timms(VisionTransformerDistilled), of_distilled),
    "torchvision":
        (lambda: randomised(torchvision_vit.VisionTransformer(40, 8, 2, 2, 128, 256, num_classes=5)), call),
    "ViTForImageClassification": (lambda: hugging("ViTForImageClassification", "ViTConfig"), of_hugging_face),
    "ViTModel": (lambda: hugging("ViTModel", "ViTConfig"), of_hugging_face),
    "Dinov2Model": (lambda: hugging("Dinov2Model", "Dinov2Config"), of_hugging_face),
    "Dinov2WithRegistersModel":
        (lambda: hugging("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig"), of_hugging_face),
    "ViTMAEModel": (lambda: hugging("ViTMAEModel", "ViTMAEConfig"), of_mae),
    "ViTMAEForPreTraining": (lambda: hugging("ViTMAEForPreTraining", "ViTMAEConfig"), of_mae),
    "DeiTModel": (lambda: hugging("DeiTModel", "DeiTConfig"), of_hugging_face),
    "DeiTForImageClassificationWithTeacher":
        (lambda: hugging("DeiTForImageClassificationWithTeacher", "DeiTConfig"), of_hugging_face),
}  # fmt: skip


def assert_same(ours: VisionTransformer, theirs: nn.Module, answer, size=NATIVE) -> None:
    with torch.no_grad():
        a, b = ours(images(size)), answer(theirs, images(size))
    assert b.std() > 0.1
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*second token's head")
@pytest.mark.parametrize("make, answer", FAMILIES.values(), ids=FAMILIES)
def test_same_numbers_at_the_native_size_and_another(make, answer, tmp_path):
    theirs = make()
    ours = load_checkpoint(theirs.state_dict())
    assert not ours.training and ours.config["n_heads"] == 2
    assert_same(ours, theirs, answer)
    if not isinstance(theirs, torchvision_vit.VisionTransformer):    # which takes one size
        assert_same(ours, theirs, answer, LARGER)
    save_weights(ours, tmp_path / "w")    # what was derived travels along
    again = load_model(tmp_path / "w").eval()
    assert torch.equal(again(images(LARGER)), ours(images(LARGER)))


WAYS = {
    "safetensors": lambda state, path: save_file(state, path),
    "a state dict": torch.save,
    "old pickle": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "model": lambda state, path: torch.save({"model": state, "epoch": 3, "args": argparse.Namespace(lr=1e-3)}, path),
    "DataParallel": lambda state, path: torch.save({f"module.{n}": t for n, t in state.items()}, path),
    "compiled, parallel": lambda state, path: torch.save(
        {"state_dict": {f"module._orig_mod.{n}": t for n, t in state.items()}, "optimizer": {"state": {0: 1}}}, path),
    "teacher": lambda state, path: torch.save(
        {"student": {f"module.backbone.{n}": -t for n, t in state.items()},
         "teacher": {f"backbone.{n}": t for n, t in state.items()} | {"head.mlp.0.weight": torch.ones(2, 2)}}, path),
    "averaged": lambda state, path: torch.save({"model": {n: -t for n, t in state.items()}, "model_ema": state}, path),
    "a part of something": lambda state, path: torch.save(
        {f"encoder.visual.{n}": t for n, t in state.items()} | {"decoder.weight": torch.ones(3)}, path),
}  # fmt: skip


@pytest.mark.parametrize("save", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("family", ["timm", "timm, DINOv2, registers", "torchvision", "Dinov2Model"])
def test_the_ways_people_save(family, save, tmp_path):
    make, answer = FAMILIES[family]
    theirs = make()
    save(theirs.state_dict(), tmp_path / "file.any")
    assert_same(load_checkpoint(tmp_path / "file.any"), theirs, answer)


def test_a_model_is_asked_for_by_name(tmp_path):
    theirs, other = timms(), randomised(timms(), 2)
    both = {"first": theirs.state_dict(), "second": {"net": other.state_dict()}}
    with pytest.raises(ValueError, match=r"2 models: pass part=, one of \['first', 'second.net'\]"):
        load_checkpoint(both)
    assert_same(load_checkpoint(both, part="first"), theirs, call)
    assert_same(load_checkpoint(both, part="second"), other, call)
    assert_same(load_checkpoint({"model": theirs.state_dict(), "model_ema": other.state_dict()}, part="model"),
                theirs, call)


def meta_names(state: dict, chunked: bool = False) -> dict:
    """DINOv2's own names, from Hugging Face's."""
    names = {"embeddings.patch_embeddings.projection": "patch_embed.proj", "embeddings.position_embeddings": "pos_embed",
             "embeddings.": "", "encoder.layer.": "blocks.0." if chunked else "blocks.", "layernorm.": "norm.",
             "layer_scale1.lambda1": "ls1.gamma", "layer_scale2.lambda1": "ls2.gamma", "attention.o_proj": "attn.proj"}
    result = {}
    for name, tensor in state.items():
        for theirs, meta in names.items():
            name = name.replace(theirs, meta)
        result[name] = tensor
    for name in [n for n in result if "attention.q_proj" in n]:
        parts = [result.pop(name.replace("q_proj", f"{x}_proj")) for x in "qkv"]
        result[name.replace("attention.q_proj", "attn.qkv")] = torch.cat(parts)
    return result


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("family, antialias", [("Dinov2Model", False), ("Dinov2WithRegistersModel", True)])
def test_metas_dinov2(family, antialias, chunked):
    make, answer = FAMILIES[family]
    theirs = make()
    state = meta_names(theirs.state_dict(), chunked)
    assert "blocks.0.0.attn.qkv.weight" in state or not chunked
    assert ("register_tokens" in state) == antialias and "mask_token" in state
    ours = load_checkpoint({"teacher": {f"backbone.{n}": t for n, t in state.items()}})
    assert ours.config["antialias"] is antialias
    assert_same(ours, theirs, answer)
    assert_same(ours, theirs, answer, LARGER)


def test_metas_deit_3_and_mae():
    theirs = timms(init_values=1e-4, no_embed_class=True)
    state = {n.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): t
             for n, t in theirs.state_dict().items()}
    assert_same(load_checkpoint({"model": state}), theirs, call)
    theirs = timms(num_classes=0)
    pretraining = {"decoder_pos_embed": torch.ones(1, 26, 4), "decoder_blocks.0.norm1.weight": torch.ones(4),
                   "mask_token": torch.ones(1, 1, 4)}
    assert_same(load_checkpoint({"model": theirs.state_dict() | pretraining}), theirs, call)


def test_resizing_is_what_differs_between_the_libraries():
    """The museum's piece: Hugging Face's weights, resized as timm does."""
    make, answer = FAMILIES["Dinov2Model"]
    theirs = make()
    smaller = (16, 8)
    with torch.no_grad():
        expected = answer(theirs, images(smaller))
        own = load_checkpoint(theirs.state_dict())(images(smaller))
        other = load_checkpoint(theirs.state_dict(), antialias=True)(images(smaller))
    torch.testing.assert_close(own, expected, rtol=0, atol=1e-5)
    assert (other - expected).abs().max() > 0.1


@pytest.mark.parametrize("family", ["timm, DeiT III", "timm, wee"])
def test_gradients_also_of_the_folded_layers(family):
    make, answer = FAMILIES[family]
    theirs, x, labels = make(), images(NATIVE), torch.tensor([3, 1, 4])
    ours = load_checkpoint(theirs.state_dict())
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    F.cross_entropy(ours(inputs[0]), labels).backward()
    F.cross_entropy(answer(theirs, inputs[1]), labels).backward()
    mine, state = {n: p.grad for n, p in ours.named_parameters()}, theirs.state_dict()
    expected, compared = {n: p.grad for n, p in theirs.named_parameters()}, 0
    mine["images"], expected["images"] = (x.grad for x in inputs)
    for name, grad in mine.items():
        if name in ("pos_embed", "cls_token", "reg_token"):
            continue    # one parameter here, a sum of two there
        scale = name.rsplit(".", 1)[0].replace("attn.proj", "ls1").replace("mlp.fc2", "ls2") + ".gamma"
        if scale in state:    # W' = diag(γ) W, so dL/dW = diag(γ) dL/dW'
            compared += 1
            grad = torch.einsum("d,d...->d...", state[scale], grad)
        atol = 1e-5 * expected[name].abs().max().item()
        torch.testing.assert_close(grad, expected[name], rtol=0, atol=max(atol, 1e-8), msg=name)
    assert compared == 2 * 2 * 2


def test_the_second_head_is_announced_and_what_it_changes():
    theirs, x = timms(VisionTransformerDistilled), images(NATIVE)
    with pytest.warns(UserWarning, match="left out: the second token's head"):
        ours = load_checkpoint(theirs.state_dict())
    assert ours.config["n_registers"] == 1
    with torch.no_grad():
        tokens = theirs.forward_features(x)
        first, second = theirs.head(tokens[:, 0]), theirs.head_dist(tokens[:, 1])
        torch.testing.assert_close(ours(x), first, rtol=0, atol=1e-5)
        torch.testing.assert_close(theirs(x) - ours(x), (second - first) / 2, rtol=0, atol=1e-5)


def test_no_warning_where_nothing_is_lost(recwarn):
    load_checkpoint(timms(init_values=1e-4, reg_tokens=2).state_dict())
    assert not recwarn.list


def test_arguments_that_shapes_do_not_tell():
    theirs = timms(embed_dim=96, num_heads=3)
    with pytest.raises(ValueError, match="no shape tells its heads, nor does width 96: pass n_heads="):
        load_checkpoint(theirs.state_dict())
    assert_same(load_checkpoint(theirs.state_dict(), 3), theirs, call)
    theirs = timms(num_heads=8)
    assert_same(load_checkpoint(theirs.state_dict(), n_heads=8), theirs, call)
    theirs = timms(img_size=(16, 40))
    with pytest.raises(ValueError, match=r"11 positions tell no grid: pass img_size=\(H, W\)"):
        load_checkpoint(theirs.state_dict())
    assert_same(load_checkpoint(theirs.state_dict(), img_size=(16, 40)), theirs, call, (16, 40))
    theirs = timms(mlp_ratio=2.7)    # 345 hidden
    assert_same(load_checkpoint(theirs.state_dict()), theirs, call)
    theirs = timms(in_chans=1, patch_size=(8, 4), img_size=(40, 20))
    ours = load_checkpoint(theirs.state_dict())
    assert ours.config["patch_size"] == [8, 4] and ours.config["in_channels"] == 1
    x = images((40, 20))[:, :1]
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


def test_an_epsilon_that_only_the_config_tells(tmp_path):
    """MSN has ViT's names and another epsilon."""
    theirs = hugging("ViTMSNModel", "ViTMSNConfig")
    assert_same(load_checkpoint(theirs.state_dict(), norm_eps=1e-6), theirs, of_hugging_face)
    theirs.save_pretrained(tmp_path)
    assert_same(load_checkpoint(tmp_path), theirs, of_hugging_face)


def test_a_head_left_away():
    theirs = timms()
    ours = load_checkpoint(theirs.state_dict(), num_classes=0)
    assert isinstance(ours.head, nn.Identity) and ours(images(NATIVE)).shape == (3, 128)
    torch.testing.assert_close(theirs.head(ours(images(NATIVE))), theirs(images(NATIVE)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_into_float32(precision):
    theirs = timms(init_values=1e-4)
    ours = load_checkpoint({n: t.to(precision) for n, t in theirs.state_dict().items()})
    rounded = theirs.to(precision).float()
    assert_same(ours, rounded, call)


# ---- Hugging Face folders


def test_a_hugging_face_folder(tmp_path):
    names = {i: name for i, name in enumerate(["ant", "bee", "cat", "dog", "elk"])}
    config = transformers.ViTConfig(
        **SMALL | dict(num_attention_heads=4), intermediate_size=256, id2label=names, layer_norm_eps=1e-3
    )
    theirs = randomised(transformers.ViTForImageClassification(config))
    theirs.save_pretrained(tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    moments = dict(image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4])
    (tmp_path / "whole" / "preprocessor_config.json").write_text(json.dumps(moments))
    for folder in "whole", "shards":
        ours = load_checkpoint(tmp_path / folder)
        assert ours.config["n_heads"] == 4 and ours.config["norm_eps"] == 1e-3
        assert_same(ours, theirs, of_hugging_face)
        assert_same(ours, theirs, of_hugging_face, LARGER)
    ours = load_checkpoint(tmp_path / "whole")
    assert ours.preparation.mean == (0.5, 0.4, 0.3) and ours.preparation.classes == ("ant", "bee", "cat", "dog", "elk")
    torch.save(theirs.state_dict(), tmp_path / "whole" / "pytorch_model.bin")
    (tmp_path / "whole" / "model.safetensors").unlink()
    assert_same(load_checkpoint(str(tmp_path / "whole")), theirs, of_hugging_face)


def test_a_timm_folder(tmp_path):
    theirs = timms(global_pool="avg", fc_norm=False)    # a mean that no name shows
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    config = {"architecture": "vit", "global_pool": "avg", "num_classes": 5,
              "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3, "label_names": list("abcde")}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours = load_checkpoint(tmp_path)
    assert_same(ours, theirs, call)
    assert ours.preparation.std == (0.25,) * 3 and ours.preparation.classes == tuple("abcde")


def test_folders_that_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="has none of model.safetensors, pytorch_model.bin.*name the file"):
        load_checkpoint(tmp_path)
    save_file(hugging("ViTModel", "ViTConfig").state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"hidden_act": "quick_gelu"}))
    with pytest.raises(ValueError, match="its activation is quick_gelu, ours the exact gelu"):
        load_checkpoint(tmp_path)


# ---- Refusals, in words


def with_part(name: str, shape=(128,), **options) -> dict:
    return timms(**options).state_dict() | {name: torch.ones(shape)}


def of_config(name: str, config: str, **options) -> dict:
    kind = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=16,
                patch_size=8)
    return getattr(transformers, name)(getattr(transformers, config)(**(kind | options))).state_dict()


REFUSED = {
    "CLIP of timm": (lambda: timms(pre_norm=True).state_dict(), r"a norm before the blocks, as CLIP \(norm_pre"),
    "CLIP of Hugging Face": (lambda: of_config("CLIPVisionModel", "CLIPVisionConfig"), "a norm before the blocks"),
    "DINOv3 of timm": (lambda: timm.create_model("vit_small_patch16_dinov3", depth=1).state_dict(),
                       r"no pos_embed: its positions are rotary \(RoPE\)"),
    "DINOv3 of Hugging Face": (lambda: of_config("DINOv3ViTModel", "DINOv3ViTConfig"), r"rotary positions \(RoPE\)"),
    "RoPE of timm": (lambda: timm.create_model("vit_small_patch16_rope_mixed_224", depth=1).state_dict(), "RoPE"),
    "BEiT": (lambda: timm.create_model("beit_base_patch16_224", depth=1).state_dict(), "relative positions"),
    "SwiGLU, packed": (lambda: timm.create_model("vit_giant_patch14_dinov2", depth=1, embed_dim=384).state_dict(),
                       r"a gated MLP \(SwiGLU\)"),
    "SwiGLU of Meta": (lambda: with_part("blocks.0.mlp.w12.weight"), r"a gated MLP \(SwiGLU\)"),
    "SwiGLU of Hugging Face": (lambda: transformers.Dinov2Model(transformers.Dinov2Config(
        **SMALL, use_swiglu_ffn=True)).state_dict(), r"a gated MLP \(SwiGLU\)"),
    "SigLIP": (lambda: timms(global_pool="map", class_token=False).state_dict(), "pooling by attention"),
    "qk norm": (lambda: timms(qk_norm=True).state_dict(), "normalised queries and keys"),
    "hybrid": (lambda: timm.create_model("vit_tiny_r_s16_p8_224", depth=1).state_dict(), "convolutional stages"),
    "Swin": (lambda: timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1)).state_dict(), "as Swin|as BEiT"),
    "parallel blocks": (lambda: timm.create_model("vit_small_patch16_18x2_224", depth=1).state_dict(), "another kind"),
    "DINOv2's classifier": (lambda: hugging("Dinov2ForImageClassification", "Dinov2Config").state_dict(),
                            r"head reads 256 numbers \(DINOv2's two vectors\), a token has 128: pass num_classes=0"),
    "no norm (RADIO)": (lambda: timms(final_norm=False).state_dict(), "lacks norm.weight"),
    "a ResNet": (lambda: {"conv1.weight": torch.ones(64, 3, 7, 7)}, r"no ViT that we know, but \['conv1.weight'\]"),
    "nothing": (dict, r"no ViT that we know, but \[\]"),
    "integers": (lambda: with_part("blocks.0.attn.qkv.weight") | {
        "blocks.0.attn.qkv.weight": torch.ones(384, 128, dtype=torch.int8)}, "torch.int8; load the model as it was"),
    "video": (lambda: timms().state_dict() | {"patch_embed.proj.weight": torch.ones(128, 3, 2, 8, 8)},
              r"patch_embed.proj.weight is \(128, 3, 2, 8, 8\), not 4 positive"),
    "a missing block": (lambda: {n: t for n, t in timms(depth=3).state_dict().items() if ".1." not in n},
                        r"blocks are \[0, 2\], not 0, 1, 2"),
    "half a LayerScale": (lambda: {n: t for n, t in timms(init_values=1).state_dict().items()
                                   if n != "blocks.1.mlp.fc2.bias"}, "blocks.1.ls2.gamma does not fit blocks.1.mlp.fc2.bias"),
    "a LayerScale gone": (lambda: {n: t for n, t in timms(init_values=1).state_dict().items()
                                   if n != "blocks.1.ls2.gamma"}, "1 of 2 blocks have their ls2.gamma"),
    "a part too many": (lambda: with_part("blocks.0.extra.weight"), "blocks.0.extra.weight is not in the model"),
}  # fmt: skip


@pytest.mark.parametrize("make, words", REFUSED.values(), ids=REFUSED)
def test_refused_by_the_name_of_the_part(make, words):
    with pytest.raises(ValueError, match=words):
        load_checkpoint(make())


def test_dinov2s_classifier_without_its_head():
    theirs = hugging("Dinov2ForImageClassification", "Dinov2Config")
    assert_same(load_checkpoint(theirs.state_dict(), num_classes=0), theirs.dinov2, of_hugging_face)


class Whole(nn.Module):
    """The tutorial's own `torch.save(model)`."""


def test_files_that_are_refused(tmp_path):
    file = tmp_path / "file.pth"
    torch.save(Whole(), file)
    with pytest.raises(ValueError, match=r"file.pth holds more than tensors \(\S*Whole\).*run code.*state_dict\(\)"):
        load_checkpoint(file)
    with warnings.catch_warnings(action="ignore"):    # on its way out
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), file)
    with pytest.raises(ValueError, match=r"more than tensors \(TorchScript\)"):
        load_checkpoint(file)
    torch.save(timms().state_dict(), file)
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(ValueError, match="not a complete PyTorch file; copy or download it again"):
        load_checkpoint(file)
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    with pytest.raises(ValueError, match="only points to a file.*git lfs pull"):
        load_checkpoint(file)
    file.write_text("\n<!DOCTYPE html><html>")
    with pytest.raises(ValueError, match="a web page: download the file itself"):
        load_checkpoint(file)
    file.write_text("patch 16")
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        load_checkpoint(file)
    torch.save([torch.ones(2)], file)
    with pytest.raises(ValueError, match="no ViT that we know"):
        load_checkpoint(file)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(TypeError, match=r"Linear is no path and no state dict; pass model.state_dict\(\)"):
        load_checkpoint(nn.Linear(2, 2))


class Bomb:
    def __reduce__(self):
        return open, ("went_off", "w")


def test_opening_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for new in True, False:
        torch.save(timms().state_dict() | {"x": Bomb()}, "bomb.pth", _use_new_zipfile_serialization=new)
        with pytest.raises(ValueError, match="holds more than tensors"):
            load_checkpoint("bomb.pth")
    assert not (tmp_path / "went_off").exists()


# ---- Fuzzed


def change(state: dict, rng: random.Random) -> tuple[str, dict]:
    """One thing wrong: (what, the state)."""
    state, name = dict(state), rng.choice(sorted(state))
    tensor, kind = state[name], rng.choice(["gone", "cut", "flat", "scalar", "empty", "integer", "prefix", "twice", "more"])
    if kind == "gone":
        del state[name]
    elif kind == "prefix":
        state["module." + name] = state.pop(name)
    elif kind == "twice":
        state = {f"module.module.{n}": t for n, t in state.items()}
    elif kind == "more":
        state[name.replace(".0.", ".7.") if ".0." in name else f"{name}.more"] = tensor
    else:
        state[name] = {"cut": tensor[..., :-1], "flat": tensor.flatten()[None], "scalar": tensor.sum(),
                       "empty": tensor[:0], "integer": tensor.long()}[kind]
    return f"{kind} {name}", state


# What may be missing, as another model of the same family is whole without it.
OPTIONAL = r"mask_token|pooler|reg_token|register_tokens|cls_token|dist|qkv.bias|query.bias"


@pytest.mark.filterwarnings("ignore:.*second token's head")
@pytest.mark.parametrize("family", FAMILIES)
def test_fuzzed_states_load_whole_or_not_at_all(family):
    make, answer = FAMILIES[family]
    theirs, rng = make(), random.Random(family)
    whole = load_checkpoint(theirs.state_dict())
    expected, refused = whole(images(NATIVE)), 0
    for _ in range(25):
        what, state = change(theirs.state_dict(), rng)
        try:
            ours = load_checkpoint(state)
        except ValueError as error:
            refused += 1
            assert "the state dict" in str(error)
            continue
        kind, name = what.split()
        if kind == "cut" and "proj" in name:    # narrower patches: as good a model as the other
            assert ours.config["patch_size"] == [8, 7]
            continue
        same = torch.equal(ours(images(NATIVE)), expected)
        left_out = re.search(r"mask_token|pooler|decoder|distillation|dist", name)
        assert same or (kind == "gone" and re.search(OPTIONAL, name)) or left_out, what
        assert kind in ("twice", "gone") or left_out or "decoder" in name, what
    assert refused >= 8


@pytest.mark.parametrize("save", [torch.save, save_file], ids=["PyTorch", "safetensors"])
def test_fuzzed_files_fail_in_words(save, tmp_path):
    save(timms(depth=1, embed_dim=64, num_heads=1).state_dict(), tmp_path / "whole")
    content, rng = (tmp_path / "whole").read_bytes(), random.Random(0)
    for _ in range(60):
        broken = bytearray(content)
        for _ in range(rng.randint(1, 20)):
            broken[rng.choice([rng.randrange(200), rng.randrange(len(content))])] = rng.randrange(256)
        (tmp_path / "broken").write_bytes(broken[: rng.choice([len(broken), rng.randrange(len(broken))])])
        try:
            load_checkpoint(tmp_path / "broken")
        except ValueError as error:
            assert "broken" in str(error)


# ---- Conventions, uses


def test_heads_by_convention_are_timms():
    """Of every ViT of timm's that loads, on the meta device; a width each is enough."""
    wrong, widths, compared = {}, {}, 0
    for name in timm.list_models(["vit_*", "deit*"]):
        if any(part in name for part in ("dinov3", "rope", "relpos", "_pe_", "resnet", "_r26", "_r50", "sapiens")):
            continue
        if re.sub(r"\d{3}$", "", name) in widths:
            continue
        widths[re.sub(r"\d{3}$", "", name)] = name
    for name in list(widths.values())[::2]:
        with torch.device("meta"):
            theirs = timm.create_model(name, depth=1)
        try:
            with warnings.catch_warnings(action="ignore"):
                found = recognise(theirs.state_dict(), {})
        except ValueError:
            continue
        compared += 1
        if found.arguments["n_heads"] != theirs.blocks[0].attn.num_heads:
            wrong[name] = (found.arguments["n_heads"], theirs.blocks[0].attn.num_heads)
    assert not wrong and compared > 15


@pytest.mark.parametrize("family", ["timm, no head (DINO, MAE)", "timm, DINOv2, registers", "Dinov2Model",
                                    "Dinov2WithRegistersModel"])
def test_maps_of_headless_models(family):
    """The class token's weights in the last block, against Hugging Face's or an explicit softmax."""
    from vit_edu.attention_maps import attention_maps, patch_map

    make, _ = FAMILIES[family]
    theirs, x = make(), images(NATIVE)
    ours = load_checkpoint(theirs.state_dict())
    maps, features = attention_maps(ours, x)
    assert maps.shape[:3] == (2, 3, 2) and features.shape == (3, 128)
    seen = patch_map(maps[-1], ours)                                       # (3, 2, rows, columns)
    if isinstance(theirs, TimmViT):
        kept = {}
        theirs.blocks[1].attn.qkv.register_forward_hook(lambda m, args, out: kept.update(qkv=out))
        theirs(x)
        q, k, _ = kept["qkv"].unflatten(2, (3, 2, 64)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / 8).softmax(dim=-1)
    else:
        theirs.set_attn_implementation("eager")
        weights = theirs(x, output_attentions=True).attentions[-1]         # (3, 2, N, N)
    expected = weights[:, :, 0, -25:].unflatten(-1, (5, 5))
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)


def test_the_command_says_what_a_file_is(tmp_path):
    save = WAYS["teacher"]
    save(timms(init_values=1e-4, num_classes=0).state_dict(), tmp_path / "dino.pth")
    torch.save(Whole(), tmp_path / "whole.pth")

    said = python_m("vit_edu.weights", tmp_path / "dino.pth")
    assert said.returncode == 0 and not said.stderr
    for words in ("dino.pth: DINO (Meta), ", "embed_dim=128", "depth=2", "folded: 4 LayerScales", "left out: head"):
        assert words in said.stdout
    refused = python_m("vit_edu.weights", tmp_path / "whole.pth")
    assert refused.returncode == 1 and "vit_edu.weights: " in refused.stderr and "run code" in refused.stderr
