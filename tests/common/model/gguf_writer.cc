#include "tests/common/model/gguf_writer.h"

#include <algorithm>
#include <utility>

#include "common/logging.h"

namespace kvec {
namespace {

uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

}  // namespace

std::string ArrayValue(const std::vector<std::string>& values) {
  std::string encoded =
      absl::StrCat(Bytes<uint32_t>(9), Bytes<uint32_t>(8), Bytes<uint64_t>(values.size()));
  for (const std::string& value : values) encoded += GgufString(value);
  return encoded;
}

GgufWriter& GgufWriter::Set(absl::string_view key, std::string value) {
  const auto it = std::find_if(entries.begin(), entries.end(),
                               [&](const Entry& entry) { return entry.key == key; });
  if (it != entries.end()) {
    it->value = std::move(value);
  } else {
    entries.push_back({std::string(key), std::move(value)});
  }
  return *this;
}

GgufWriter& GgufWriter::Erase(absl::string_view key) {
  entries.erase(std::remove_if(entries.begin(), entries.end(),
                               [&](const Entry& entry) { return entry.key == key; }),
                entries.end());
  return *this;
}

GgufWriter::Tensor& GgufWriter::Find(absl::string_view tensor_name) {
  const auto it = std::find_if(tensors.begin(), tensors.end(),
                               [&](const Tensor& tensor) { return tensor.name == tensor_name; });
  CHECK(it != tensors.end()) << tensor_name;
  return *it;
}

GgufWriter& GgufWriter::EraseTensor(absl::string_view tensor_name) {
  tensors.erase(std::remove_if(tensors.begin(), tensors.end(),
                               [&](const Tensor& tensor) { return tensor.name == tensor_name; }),
                tensors.end());
  return *this;
}

std::string GgufWriter::BuildHeader() const {
  std::string file =
      absl::StrCat(magic, Bytes(version), Bytes<uint64_t>(num_tensors.value_or(tensors.size())),
                   Bytes<uint64_t>(num_entries.value_or(entries.size())));
  for (const Entry& entry : entries) absl::StrAppend(&file, GgufString(entry.key), entry.value);
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors) {
    absl::StrAppend(&file, GgufString(tensor.name),
                    Bytes<uint32_t>(tensor.num_dims.value_or(tensor.dims.size())));
    for (const uint64_t dim : tensor.dims) file += Bytes(dim);
    absl::StrAppend(&file, Bytes(tensor.type), Bytes<uint64_t>(tensor.offset.value_or(offset)));
    offset = AlignUp(offset + tensor.data.size(), alignment);
  }
  return file;
}

std::string GgufWriter::Build() const {
  std::string file = BuildHeader();
  for (const Tensor& tensor : tensors) {
    file.resize(AlignUp(file.size(), alignment), '\0');
    file += tensor.data;
  }
  return file;
}

}  // namespace kvec
