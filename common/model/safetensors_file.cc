#include "common/model/safetensors_file.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/model/byte_reader.h"
#include "common/model/error_text.h"
#include "common/model/json.h"
#include "common/model/json_fields.h"
#include "common/model/tensor_directory.h"
#include "common/status_macros.h"

namespace kvec {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxDimensions = 8;

absl::StatusOr<std::vector<int64_t>> ReadIntegers(const JsonFields& fields, absl::string_view field,
                                                  size_t min_count, size_t max_count) {
  const json* array = fields.Find(field);
  if (array == nullptr || !array->is_array() || array->size() < min_count ||
      array->size() > max_count) {
    return absl::InvalidArgumentError(absl::StrCat(fields.Name(field), ": must be an array of ",
                                                   min_count, " … ", max_count, " integers"));
  }
  std::vector<int64_t> numbers;
  for (const json& element : *array) {
    int64_t number = 0;
    if (!LoadInteger(element, number) || number < 0) {
      return fields.WrongValue(field, element, "an array of integers that are not negative");
    }
    numbers.push_back(number);
  }
  return numbers;
}

absl::StatusOr<SafetensorsEntry> ReadEntry(const std::string& name, const json& value,
                                           absl::Span<const uint8_t> data) {
  SafetensorsEntry entry;
  entry.name = name;
  KVEC_ASSIGN_OR_RETURN(const JsonFields fields,
                        JsonFields::Of(value, absl::StrCat("tensor ", Quoted(name), ": ")));
  KVEC_ASSIGN_OR_RETURN(entry.dtype, fields.String("dtype"));
  KVEC_ASSIGN_OR_RETURN(entry.shape, ReadIntegers(fields, "shape", 0, kMaxDimensions));
  KVEC_ASSIGN_OR_RETURN(const std::vector<int64_t> offsets,
                        ReadIntegers(fields, "data_offsets", 2, 2));
  const auto begin = static_cast<uint64_t>(offsets[0]);
  const auto end = static_cast<uint64_t>(offsets[1]);
  if (begin > end || end > data.size()) {
    return absl::InvalidArgumentError(absl::StrCat(fields.Name("data_offsets"), ": are ",
                                                   ShapeText(offsets), ", file has ", data.size(),
                                                   " bytes of data"));
  }
  entry.data = data.subspan(begin, end - begin);
  return entry;
}

// Sorts the entries by their data.
absl::Status CheckCoverage(std::vector<SafetensorsEntry>& entries, absl::Span<const uint8_t> data) {
  std::sort(entries.begin(), entries.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              // An empty tensor comes before the one that begins at the same byte.
              return std::make_pair(a.data.data(), a.data.size()) <
                     std::make_pair(b.data.data(), b.data.size());
            });
  const uint8_t* expected = data.data();
  for (const SafetensorsEntry& entry : entries) {
    if (entry.data.data() != expected) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", Quoted(entry.name), ": data_offsets: begins at ",
                       entry.data.data() - data.data(), ", the tensor before it ends at ",
                       expected - data.data()));
    }
    expected += entry.data.size();
  }
  if (expected != data.data() + data.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "data: tensors end at byte ", expected - data.data(), ", file has ", data.size()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensors(absl::Span<const uint8_t> bytes) {
  ByteReader reader(bytes);
  absl::StatusOr<uint64_t> header_size = reader.Read<uint64_t>();
  if (!header_size.ok()) return Annotate(header_size.status(), "header length");
  if (*header_size > kMaxHeaderBytes || *header_size > reader.remaining()) {
    return absl::InvalidArgumentError(absl::StrCat("header length: is ", *header_size,
                                                   ", must be at most ", kMaxHeaderBytes,
                                                   ", file has ", bytes.size(), " bytes"));
  }
  KVEC_ASSIGN_OR_RETURN(const absl::Span<const uint8_t> header, reader.ReadBytes(*header_size));
  absl::StatusOr<json> directory =
      ParseJson(absl::string_view(reinterpret_cast<const char*>(header.data()), header.size()));
  if (!directory.ok()) return Annotate(directory.status(), "header");
  if (!directory->is_object()) return absl::InvalidArgumentError("header: is no JSON object");

  const absl::Span<const uint8_t> data = bytes.subspan(reader.position());
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, value] : directory->items()) {
    if (name == "__metadata__") continue;
    KVEC_ASSIGN_OR_RETURN(SafetensorsEntry entry, ReadEntry(name, value, data));
    entries.push_back(std::move(entry));
  }
  KVEC_RETURN_IF_ERROR(CheckCoverage(entries, data));
  return entries;
}

absl::StatusOr<FileTensor> ToFileTensor(const SafetensorsEntry& entry, absl::string_view name) {
  FileTensor tensor;
  tensor.name = std::string(name);
  tensor.shape = entry.shape;
  if (entry.dtype == "F32") {
    tensor.type = TensorType::kF32;
  } else if (entry.dtype == "F16") {
    tensor.type = TensorType::kF16;
  } else if (entry.dtype == "BF16") {
    tensor.type = TensorType::kBF16;
  } else {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(entry.name), ": dtype ",
                                                   Quoted(entry.dtype),
                                                   " is not supported; known: F32, F16, BF16"));
  }
  KVEC_ASSIGN_OR_RETURN(const uint64_t size, TensorBytes(tensor));
  if (size != entry.data.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", Quoted(entry.name), ": data_offsets: span ", entry.data.size(),
                     " bytes, ", entry.dtype, " ", ShapeText(entry.shape), " needs ", size));
  }
  tensor.data = entry.data;
  return tensor;
}

}  // namespace kvec
