// The directory of a safetensors file.
#include "absl/types/span.h"
#include "common/model/safetensors_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto entries = kvec::ParseSafetensors({data, size});
  if (!entries.ok()) return 0;
  for (const kvec::SafetensorsEntry& entry : *entries) {
    const auto tensor = kvec::ToFileTensor(entry, "blk.0.attn_q.weight");
    // Reads both ends of the data.
    volatile uint8_t byte = 0;
    if (tensor.ok() && !tensor->data.empty()) byte = tensor->data.front() ^ tensor->data.back();
    static_cast<void>(byte);
  }
  return 0;
}
