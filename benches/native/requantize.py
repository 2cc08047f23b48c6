"""Rounds a GGUF file's Q4_1 tensors to Q4_0, for which Candle has a SIMD kernel in the browser.

    python requantize.py SOURCE.gguf TARGET.gguf

For speed only: this rounding costs a fifth of the perplexity.
"""

import os
import sys

import gguf
from gguf import GGMLQuantizationType as Type

LLAMA_FTYPE_MOSTLY_Q4_0 = 2


def main() -> None:
    source, target = sys.argv[1:]
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target + ".part", reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        value = LLAMA_FTYPE_MOSTLY_Q4_0 if key == "general.file_type" else field.contents()
        element = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, value, field.types[0], element)
    for tensor in reader.tensors:
        data, kind = tensor.data, tensor.tensor_type
        if kind == Type.Q4_1:
            data, kind = gguf.quants.quantize(gguf.quants.dequantize(data, kind), Type.Q4_0), Type.Q4_0
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    # Whole or not at all.
    os.replace(target + ".part", target)


main()
