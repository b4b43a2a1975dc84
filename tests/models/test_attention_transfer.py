"""Attention transfer: the student sees by the teacher's matrices, and learns the rest."""

import pytest
import torch

from kanvision.models import AttentionTransfer, create_model

SIZES = {"img_size": 16, "patch_size": 4, "depth": 2, "num_classes": 3}


def pair(teacher="karat", heads=(2, 4)):
    torch.manual_seed(0)
    name = f"{'vit' if teacher == 'softmax' else teacher}_micro_patch16_224"
    return (
        create_model(name, embed_dim=8, num_heads=heads[0], **SIZES),
        create_model("vit_micro_patch16_224", embed_dim=16, num_heads=heads[1], **SIZES),
    )


@pytest.mark.parametrize("kind", ["karat", "softmax", "kat"])
def test_matrices_are_those_that_the_teacher_attends_by(kind):
    teacher, student = pair(kind)
    model, x = AttentionTransfer(teacher, student), torch.randn(2, 3, 16, 16)
    attn, seen = teacher.blocks[1].attn, []
    handle = attn.register_forward_hook(lambda _, args, out: seen.append((args[0], out)))
    matrix = model.matrices(x)[1]
    handle.remove()
    tokens, expected = seen[0]
    v = attn.qkv(tokens).reshape(2, 17, 3, 2, 4).permute(2, 0, 3, 1, 4)[2]
    torch.testing.assert_close(attn.proj((matrix @ v).transpose(1, 2).flatten(2)), expected)


def test_only_the_student_learns_and_it_has_no_queries_and_keys():
    teacher, student = pair()
    model, x = AttentionTransfer(teacher, student).train(), torch.randn(2, 3, 16, 16)
    assert not model.teacher.training
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model(x).square().sum().backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not [name for name, p in student.named_parameters() if p.grad is None]
    assert not [name for name in student.state_dict() if "qkv" in name]
    assert all(block.attn.matrix is None for block in student.blocks)


def test_each_matrix_serves_neighboring_heads():
    teacher, student = pair()
    model = AttentionTransfer(teacher, student)
    copy = student.blocks[0].attn
    copy.matrix = torch.zeros(1, 2, 17, 17)
    copy.matrix[:, 1] = torch.eye(17)  # the second head of the teacher looks at itself, the first nowhere
    x = torch.randn(1, 17, 16)
    v = copy.value(x)
    v[..., :8] = 0
    torch.testing.assert_close(copy(x), copy.proj(v))
    assert model(torch.randn(1, 3, 16, 16)).shape == (1, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"depth": 3}, r"teacher has \(2, 17\), the student \(3, 17\)"),
        ({"num_heads": 1}, "1 heads of the student cannot share the matrices of 2 heads"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, words):
    teacher, _ = pair()
    student = create_model("vit_micro_patch16_224", **{**SIZES, "embed_dim": 16, "num_heads": 4, **change})
    with pytest.raises(ValueError, match=words):
        AttentionTransfer(teacher, student)


def test_only_vision_transformers_teach():
    _, student = pair()
    swin = create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1), embed_dim=12)
    with pytest.raises(ValueError, match="the teacher is a Swin"):
        AttentionTransfer(swin, student)
