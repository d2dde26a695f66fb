#!/usr/bin/env python3
# corpus.py - cut the demo model's training text out of unpacked Debian packages
#
# SPDX-License-Identifier: Apache-2.0
"""Cut the demo model's training text out of unpacked Debian packages (../NOTICE lists them).

    corpus.py --text DIR --sources DIR --out DIR

--text holds plain text made from the documentation packages (kjv.txt, git-doc.txt, ...), --sources the unpacked
packages of program text (libpython3.11-stdlib, python3-django, linux-source-6.1). A kind gets at most 4 MB: documents of
about 3 kB, shuffled, separated by NUL, one in forty held out. Written are KIND.train.txt and KIND.held.txt. Kinds that
the model is not trained on (french, russian, chinese) are made as well: they take their turn at the random numbers.
"""
import argparse
import glob
import os
import random
import re
import tarfile

SEED = 7
LIMIT = 4_000_000  # bytes of a kind
DOCUMENT = 3000  # characters of a document of prose
PROGRAM = 4000  # and of program text
KERNEL_TEXT = 9_000_000  # characters of kernel source to choose from
KERNEL_PARTS = re.compile(r"/(kernel|lib|mm|fs/ext4|net/core|block)/")


def clean(text):
    """Text without control characters, trailing blanks and runs of empty lines."""
    text = text.replace("\r", "").replace("\x0c", "\n")
    text = re.sub(r"[ \t]+\n", "\n", text)
    text = re.sub(r"\n{3,}", "\n\n", text)
    return "".join(c for c in text if c in "\n\t" or ord(c) >= 32)


def read(path):
    """The clean text of a file; bytes that are not UTF-8 are left out."""
    with open(path, encoding="utf-8", errors="ignore") as file:
        return clean(file.read())


def cut(text, size):
    """Pieces of `size` characters."""
    return [text[at:at + size] for at in range(0, len(text), size)]


def documents(path, size=DOCUMENT):
    """Whole paragraphs put together until they have `size` characters; a shorter rest is dropped."""
    found = []
    current = ""
    for paragraph in read(path).split("\n\n"):
        current += paragraph + "\n\n"
        if len(current) >= size:
            found.append(current.strip())
            current = ""
    return found


def take(found, limit=LIMIT):
    """A random choice of the documents, up to the first that would go over `limit` bytes."""
    random.shuffle(found)
    taken = []
    total = 0
    for document in found:
        size = len(document.encode())
        if total + size > limit:
            break
        taken.append(document)
        total += size
    return taken


def python_text(sources):
    """Pieces of Python modules of reasonable length."""
    patterns = ("libpython3.11-stdlib/usr/lib/python3.11/**/*.py",
                "python3-django/usr/lib/python3/dist-packages/django/**/*.py")
    pieces = []
    for pattern in patterns:
        for path in glob.glob(os.path.join(sources, pattern), recursive=True):
            if not os.path.isfile(path):
                continue
            text = read(path)
            if 400 < len(text) < 60000:
                pieces += cut(text, PROGRAM)
    return pieces


def kernel_text(sources):
    """Pieces of C from a few parts of the Linux source."""
    archives = glob.glob(os.path.join(sources, "linux-source-6.1/usr/src/*.tar.xz"))
    pieces = []
    if not archives:
        return pieces
    with tarfile.open(archives[0], "r:xz") as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".c") and KERNEL_PARTS.search(member.name):
                pieces += cut(clean(archive.extractfile(member).read().decode("utf-8", "ignore")), PROGRAM)
                if sum(map(len, pieces)) > KERNEL_TEXT:
                    break
    return pieces


def kinds(text, sources):
    """Kind -> documents. The order is that of the random numbers."""
    def prose(*names, size=DOCUMENT):
        return [document for name in names for document in documents(os.path.join(text, name + ".txt"), size)]

    return {
        "scripture": take(cut(read(os.path.join(text, "kjv.txt")), DOCUMENT)),
        "python": take(python_text(sources)),
        "english": take(prose("debian-reference-en", "git-doc", "fortunes", "dict-jargon")),
        "german": take(prose("debian-reference-de", "libreoffice-help-de", "fortunes-de")),
        "french": take(prose("debian-reference-fr", "libreoffice-help-fr", "manpages-fr")),
        "russian": take(prose("libreoffice-help-ru", "fortunes-ru"), 5_000_000),
        "japanese": take(prose("debian-reference-ja", "libreoffice-help-ja", size=1500), 4_500_000),
        "chinese": take(prose("debian-reference-zh-cn", "libreoffice-help-zh-cn", "fortunes-zh", size=1200)),
        "c": take(kernel_text(sources)),
    }


def write(path, found):
    """Documents separated by NUL."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("\x00".join(found))


def main():
    """Read the command line, cut all kinds, write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True, metavar="DIR")
    parser.add_argument("--sources", required=True, metavar="DIR")
    parser.add_argument("--out", default=".", metavar="DIR")
    options = parser.parse_args()

    random.seed(SEED)
    os.makedirs(options.out, exist_ok=True)
    for kind, found in kinds(options.text, options.sources).items():
        held = max(1, len(found) // 40)
        write(os.path.join(options.out, kind + ".train.txt"), found[held:])
        write(os.path.join(options.out, kind + ".held.txt"), found[:held])
        print(kind, len(found), "documents,", sum(len(d.encode()) for d in found), "bytes")


if __name__ == "__main__":
    main()
