"""The checkpoints that others publish and this project reads: the table of `restyle models` and of its page.

Files are named as their authors name them. Sizes are those of the float32 weights in the published layout;
nobody here has opened the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

RESTYLE_HOME = "github.com/yuval-alaluf/restyle-encoder"
PSP_HOME = "github.com/eladrich/pixel2style2pixel"
E4E_HOME = "github.com/omertov/encoder4editing"
ADA_HOME = "github.com/NVlabs/stylegan2-ada-pytorch"
STYLEGAN3_EDITING_HOME = "github.com/yuval-alaluf/stylegan3-editing"
STYLEGAN3_HOME = "github.com/NVlabs/stylegan3"
MIT = "MIT, as its repository"
NVIDIA = "NVIDIA Source Code License: research and evaluation, not commercial"
# What the pictures that a network learned from allow, where their publisher says it.
FFHQ = "FFHQ (CC BY-NC-SA 4.0)"
AFHQ = "AFHQ (CC BY-NC 4.0)"
BENCHMARK = "CelebA-HQ test split, by the benchmark of github.com/caopulan/GANInverter"
FFHQ_TIME = "6.3 s per photo in fp32, 3.3 s in bf16, on two CPU cores"


@dataclass(frozen=True)
class Checkpoint:
    """A file that somebody published."""

    name: str  # of the file
    method: str
    domain: str
    picture: str  # width x height that it draws
    home: str
    listed_as: str  # in the README there
    licence: str
    learned_from: str
    megabytes: int | None = None
    align: str = "none"
    steps: int = 5  # 0: a generator, which inverts nothing by itself
    first: str = ""  # the checkpoint that this is meant to follow
    expect: str = ""  # of its quality
    takes: str = ""  # measured by this project

    @property
    def is_generator(self) -> bool:
        """Whether it draws, and encodes nothing."""
        return self.steps == 0

    @property
    def size(self) -> str:
        """For people."""
        return f"about {self.megabytes} MB" if self.megabytes else ""


_PSP = Checkpoint(
    name="restyle_psp_ffhq_encode.pt",
    method="ReStyle over pSp",
    domain="faces",
    picture="1024x1024",
    home=RESTYLE_HOME,
    listed_as="FFHQ - ReStyle + pSp",
    licence=MIT,
    learned_from=FFHQ,
    megabytes=955,
    align="face",
    takes=FFHQ_TIME,
)
_E4E = replace(
    _PSP,
    name="restyle_e4e_ffhq_encode.pt",
    method="ReStyle over e4e, for edits",
    listed_as="FFHQ - ReStyle + e4e",
    expect=f"MSE 0.0428, LPIPS 0.190, identity 0.51 ({BENCHMARK})",
)
_SINGLE_PSP = replace(
    _PSP,
    name="psp_ffhq_encode.pt",
    method="pSp, one step",
    home=PSP_HOME,
    listed_as="StyleGAN Inversion",
    megabytes=1201,
    steps=1,
    expect=f"MSE 0.0345, LPIPS 0.159, identity 0.56 ({BENCHMARK})",
    takes="",
)
_SINGLE_E4E = replace(
    _SINGLE_PSP,
    name="e4e_ffhq_encode.pt",
    method="e4e, one step, for edits",
    home=E4E_HOME,
    listed_as="FFHQ Inversion",
    expect=f"MSE 0.0472, LPIPS 0.197, identity 0.50 ({BENCHMARK})",
)
_GENERATOR = Checkpoint(
    name="stylegan2-ffhq-config-f.pt",
    method="StyleGAN2 generator, converted by rosinality's script",
    domain="faces",
    picture="1024x1024",
    home=RESTYLE_HOME,
    listed_as="FFHQ StyleGAN",
    licence=NVIDIA,
    learned_from=FFHQ,
    megabytes=133,
    align="face",
    steps=0,
)
_ADA = replace(
    _GENERATOR,
    name="ffhq.pkl",
    method="StyleGAN2-ADA generator",
    home=ADA_HOME,
    listed_as="ffhq.pkl",
    megabytes=None,
)

_DOMAINS = {
    "cars": ("cars", "512x384", "Stanford Cars", "Stanford Cars", 830),
    "church": ("churches", "256x256", "LSUN Church", "LSUN Church", 749),
    "horse": ("horses", "256x256", "LSUN Horse", "LSUN Horse", 749),
    "afhq_wild": ("wild animals' faces", "512x512", "AFHQ Wild", AFHQ, 830),
}
_WITHOUT_PSP = ("horse",)  # which ReStyle publishes over e4e alone


def _of_domain(face: Checkpoint, word: str) -> Checkpoint:
    """The file for another domain, of the same method."""
    domain, picture, title, learned_from, megabytes = _DOMAINS[word]
    is_restyle = face.home == RESTYLE_HOME
    return replace(
        face,
        name=face.name.replace("ffhq", word),
        domain=domain,
        picture=picture,
        listed_as=face.listed_as.replace("FFHQ", title if is_restyle else word.capitalize()),
        learned_from=learned_from,
        megabytes=megabytes if is_restyle else None,
        align="none",
        expect="",
        takes="",
    )


def _all() -> Iterator[Checkpoint]:
    yield _PSP
    yield from (_of_domain(_PSP, word) for word in _DOMAINS if word not in _WITHOUT_PSP)
    yield replace(
        _PSP,
        name="restyle_psp_toonify.pt",
        method="ReStyle over pSp, drawn as a cartoon",
        listed_as="Toonify - ReStyle + pSp",
        first=_PSP.name,
        expect="",
        takes="",
    )
    yield _E4E
    yield from (_of_domain(_E4E, word) for word in _DOMAINS)
    for over, use in (("pSp", ""), ("e4e", ", for edits")):
        yield replace(
            _PSP, name=f"restyle_{over}_ffhq.pt", method=f"ReStyle over {over} for StyleGAN3{use}",
            home=STYLEGAN3_EDITING_HOME, listed_as=f"ReStyle-{over} Human Faces", megabytes=805, takes="",
        )  # fmt: skip
    yield _SINGLE_PSP
    for name, title, method in (
        ("psp_ffhq_frontalization.pt", "Face Frontalization", "pSp, turns a face to the front"),
        ("psp_celebs_super_resolution.pt", "Super Resolution", "pSp, for small photos"),
        ("psp_ffhq_toonify.pt", "toonify, in its notebook", "pSp, draws a cartoon"),
    ):
        source = "CelebA-HQ" if "celebs" in name else FFHQ
        yield replace(
            _SINGLE_PSP, name=name, listed_as=title, method=method, learned_from=source, expect=""
        )
    yield _SINGLE_E4E
    yield from (_of_domain(_SINGLE_E4E, word) for word in ("cars", "church", "horse"))
    yield _GENERATOR
    yield _ADA
    for name, domain, source in (
        ("afhqcat.pkl", "cats' faces", AFHQ),
        ("afhqdog.pkl", "dogs' faces", AFHQ),
        ("afhqwild.pkl", "wild animals' faces", AFHQ),
        ("metfaces.pkl", "faces in paintings", "MetFaces (CC BY-NC 2.0)"),
    ):
        picture = "1024x1024" if name == "metfaces.pkl" else "512x512"
        yield replace(
            _ADA, name=name, listed_as=name, domain=domain, picture=picture, learned_from=source,
            align="face" if name == "metfaces.pkl" else "none",
        )  # fmt: skip
    for name in ("stylegan3-t-ffhq-1024x1024.pkl", "stylegan3-r-ffhq-1024x1024.pkl"):
        yield replace(
            _ADA, name=name, listed_as=name, method="StyleGAN3 generator", home=STYLEGAN3_HOME,
        )  # fmt: skip


CHECKPOINTS: tuple[Checkpoint, ...] = tuple(_all())


def markdown() -> str:
    """The table as docs/models.md has it."""
    head = (
        "file",
        "method",
        "pictures of",
        "draws",
        "flags",
        "size",
        "from",
        "licence; learned from",
    )
    rows = [
        (
            f"`{one.name}`",
            one.method,
            one.domain,
            one.picture,
            f"`{flags}`" if (flags := " ".join(own_flags(one))) else "",
            f"{one.megabytes} MB" if one.megabytes else "",
            f"{one.home.removeprefix('github.com/')}: {one.listed_as}",
            f"{one.licence}; {one.learned_from}",
        )
        for one in CHECKPOINTS
    ]
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def own_flags(one: Checkpoint) -> list[str]:
    """What `restyle invert` must be told besides --model."""
    flags = [] if one.align == "face" or one.is_generator else ["--align none"]
    return flags + (["--steps 1"] if one.steps == 1 else [])
