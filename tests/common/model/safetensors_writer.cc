#include "tests/common/model/safetensors_writer.h"

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tests/common/model/gguf_writer.h"

namespace kvec {

std::string BuildSafetensors(const std::vector<SafetensorsTensor>& tensors) {
  nlohmann::json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const SafetensorsTensor& tensor : tensors) {
    const size_t end = data.size() + tensor.data.size();
    header[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {data.size(), end}}};
    data += tensor.data;
  }
  return BuildSafetensors(header.dump(), data);
}

std::string BuildSafetensors(absl::string_view header, absl::string_view data) {
  return absl::StrCat(Bytes<uint64_t>(header.size()), header, data);
}

}  // namespace kvec
