"""Calls of the two command lines that must be refused."""

from typing import Any, NamedTuple

import jaxnet.lecture.cli
import torchref.cli


class Call(NamedTuple):
    """Arguments of the command line, and what it must say; `{}` stands for the folder of files."""

    arguments: str
    says: str
    main: Any = jaxnet.lecture.cli.main


CERTIFY = {"main": torchref.cli.main}

CALLS = [
    Call("lecture --json {}/file/new", "--json needs the folder .*file is a file", **CERTIFY),
    Call("lecture --only logist", "did you mean 'logits'", **CERTIFY),
    Call("lecture --certify -1", "'--certify': -1 is not in the range x>=0", **CERTIFY),
    Call("lecture --root {}/none", "'--root': Directory '.*none' does not exist", **CERTIFY),
    Call("lecture --only full_bach", "'--only': 'full_bach' is not one of 'full_batch', 'dropout'"),
    Call("lecture --precision double", "'double' is not one of 'parity', 'fast', 'float64'"),
    Call("lecture --resume", "--resume needs --checkpoint DIR"),
    Call("lecture --checkpoint {}/file", "'--checkpoint': Directory '.*file' is a file"),
    Call("lecture --checkpoint {}/a[1]", "--checkpoint must have a path in UTF-8 without .*a.1."),
    Call("lecture --checkpoint {}/file/c", "--checkpoint needs the folder .*, but .*file is a"),
    Call("lecture --torch {}/none --figures {}/new", "'--torch': File '.*none' does not exist"),
    Call("lecture --torch {}/file --figures {}/new", "--torch must be what .*is no JSON"),
    Call("lecture --torch {}/file", "--torch is shown in pictures: it needs --figures DIR"),
    Call("lecture --jsonl {}/file/new", "--jsonl needs the folder .*, but .*file is a file"),
    Call("lecture --jsonl /proc/none", "--jsonl needs /proc, which cannot be written"),
    Call("lecture --jsonl {}/empty", "File '.*empty' is a directory"),
    Call("lecture --devices 99999", "--devices must be at most .*, as many as JAX finds here"),
    Call("lecture --process-id 0", "--process-id go together, with --distributed"),
    Call("lecture --distributed --num-processes 2", "--coordinator, .* --process-id go together"),
    Call("lecture --distribute", "No such option '--distribute'.*'--distributed'"),
    Call("report --out {}/new.pdf", "must end in .html, not .*new.pdf"),
    Call("report --out {}/file/new.html", "--out needs the folder .*, but .*file is a file"),
    Call("report --out {}/new.html --torch {}/file", "--torch must be what .*is no JSON"),
    Call("reprot", "No such command 'reprot'.*'report'"),
    Call("lecture logits", r"unexpected extra argument \(logits\)"),
    Call("lecture --root {}/empty", "root is '.*empty', which lacks train-images-idx3-ubyte, .*"),
    Call("lecture --root {}/other", "other/train-images-.* is not MNIST's .* the MD5 digest"),
    Call("lecture --root {}/cut", "cut/train-images-.* holds 779 bytes of data; expected 784"),
    Call("lecture --root {}/shape", r"has shape \(1, 27, 28\); expected \('n', 28, 28\)"),
    Call("lecture --json {}/empty", "'--json': File '.*empty' is a directory"),
    Call("lecture --json {}/file/new.json", "--json needs the folder .*file, but .*file is a file"),
    Call("lecture --json /proc/none", "--json needs /proc, which cannot be written"),
    Call(f"lecture --json {{}}/{'n' * 256}", "--json cannot be .*nnn: File name too long"),
    Call("lecture --figures {}/file/new", "--figures needs the folder .*new, but .*file is a file"),
    Call("sweep minibach", "'minibach' is not one of 'full_batch'"),
    Call("sweep minibatch --seeds 9:3", "'9:3' is not seeds such as 0:256"),
    Call("sweep minibatch --out {}/saved", "holds files"),
    Call("sweep minibatch --out {}/new --root {}/cut", "holds 779 bytes of data; expected 784"),
    Call("sweep minibatch --out {}/file/new", "--out needs the folder .*new, but .*file is a file"),
    Call("sweep minibatch --figures {}/file/new", "--figures needs the folder .*new"),
    Call("sweep minibatch --out /proc/none", "--out needs /proc, which cannot be written"),
    Call("sweep minibatch --epochs 0", "'--epochs': 0 is not in the range 1<=x<="),
    Call("sweep minibatch --resume", "--resume needs --out DIR"),
    Call("sweep minibatch --lr 0.1 --lr 0.1", "must hold different values; 0.1 is there twice"),
    Call("sweep minibatch --seeds 0:99999999999999999999", "at most 1,000,000 of them"),
    Call("sweep minibatch --lr x", "'x' is not a valid float"),
    Call("sweep minibatch --lr -1", "grid at lr=-1.0: lr is -1.0, expected a number of at least"),
    Call("sweep logits --p 0.5", "grid has 'p'"),
    Call("show --out {}/new.xyz", "Format 'xyz' is not supported .*png"),
    Call("show --out {}/file/new.png", "--out needs the folder .*file, but .*file is a file"),
    Call("doctor --json {}/file/new.json", "--json needs the folder .*file, but .*file is a file"),
    Call("sing", "No such command 'sing'"),
    Call("certify", "Missing argument 'FILE:FUNCTION'", **CERTIFY),
    Call("certify {}/net.py", "FILE:FUNCTION must name a file that is there, not", **CERTIFY),
    Call("certify {}/none.py:build", "FILE:FUNCTION must name a file that is there", **CERTIFY),
    Call("certify {}/empty:build", "FILE:FUNCTION must name a file that is there", **CERTIFY),
    Call("certify {}/net.py:biuld", r"net\.py has no function 'biuld'", **CERTIFY),
    Call("certify {}/file:build", "file is no Python file", **CERTIFY),
    Call("certify {}/damaged.py:build", r"SyntaxError: .*damaged\.py, line 1", **CERTIFY),
    Call("certify {}/fails.py:build", r"ZeroDivisionError: .*line 2 of fails\.py", **CERTIFY),
    Call("certify {}/net.py:build", r"build must return \(net, loss, optimizer, .*int", **CERTIFY),
    Call("certify {}/net.py:build --epochs 0", "'--epochs': 0 is not in the range 1<=", **CERTIFY),
    Call("certify {}/net.py:build --epochs 2147483648", "not in the range .*2147483647", **CERTIFY),
    Call("certify {}/net.py:build --seed 99999999999999999999", "not in the range -9", **CERTIFY),
    Call("certify {}/net.py:build --batch-size 0", "'--batch-size': 0 is not in the", **CERTIFY),
    Call("certify {}/net.py:build --seed x", "'--seed': 'x' is not a valid integer", **CERTIFY),
    Call("certify {}/net.py:build --save {}/new.doc", "--save must end in .html, .json", **CERTIFY),
    Call("certify {}/net.py:build --save {}/none/a.txt", "--save names a folder that", **CERTIFY),
    Call("certify {}/net.py:build --save {}/empty", "File '.*empty' is a directory", **CERTIFY),
    Call("certify {}/net.py:build --save /proc/a.txt", "--save needs /proc, which can", **CERTIFY),
    Call("certify {}/net.py:build --epoch 1", "No such option '--epoch'", **CERTIFY),
]
