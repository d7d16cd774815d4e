#ifndef KVEC_TESTS_COMMON_MODEL_GGUF_WRITER_H_
#define KVEC_TESTS_COMMON_MODEL_GGUF_WRITER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace kvec {

// Makes GGUF files for tests: well-formed by default, and wrong in any single field on demand. All
// members are free to change before Build.
struct GgufWriter {
  struct Entry {
    std::string key;
    std::string value;  // encoded: type, then the value
  };
  struct Tensor {
    std::string name;
    uint32_t type = 0;           // ggml's number; 0 is F32
    std::vector<uint64_t> dims;  // innermost first, as in the file
    std::string data;
    std::optional<uint64_t> offset;    // stated instead of the true one
    std::optional<uint32_t> num_dims;  // likewise
  };

  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> num_tensors;  // stated instead of the true count
  std::optional<uint64_t> num_entries;  // likewise
  uint64_t alignment = 32;              // of the data; the key is for the test to add
  std::vector<Entry> entries;
  std::vector<Tensor> tensors;

  // Adds the key, or replaces its value.
  GgufWriter& Set(absl::string_view key, std::string value);
  GgufWriter& Erase(absl::string_view key);
  Tensor& Find(absl::string_view tensor_name);
  GgufWriter& EraseTensor(absl::string_view tensor_name);

  // The bytes before the tensors' data.
  std::string BuildHeader() const;
  std::string Build() const;
};

// Little-endian bytes of a number.
template <typename T>
std::string Bytes(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

inline std::string GgufString(absl::string_view text) {
  return absl::StrCat(Bytes<uint64_t>(text.size()), text);
}

// ggml's number of a scalar type of the metadata.
template <typename T>
constexpr uint32_t GgufTypeNumber() {
  if constexpr (std::is_same_v<T, bool>) return 7;
  if constexpr (std::is_same_v<T, uint8_t>) return 0;
  if constexpr (std::is_same_v<T, int8_t>) return 1;
  if constexpr (std::is_same_v<T, uint16_t>) return 2;
  if constexpr (std::is_same_v<T, int16_t>) return 3;
  if constexpr (std::is_same_v<T, uint32_t>) return 4;
  if constexpr (std::is_same_v<T, int32_t>) return 5;
  if constexpr (std::is_same_v<T, float>) return 6;
  if constexpr (std::is_same_v<T, uint64_t>) return 10;
  if constexpr (std::is_same_v<T, int64_t>) return 11;
  if constexpr (std::is_same_v<T, double>) return 12;
}

// Encoded metadata values.
template <typename T>
std::string Value(T value) {
  return absl::StrCat(Bytes<uint32_t>(GgufTypeNumber<T>()), Bytes(value));
}

inline std::string Value(absl::string_view text) {
  return absl::StrCat(Bytes<uint32_t>(8), GgufString(text));
}

inline std::string Value(const char* text) { return Value(absl::string_view(text)); }

template <typename T>
std::string ArrayValue(const std::vector<T>& values) {
  std::string encoded = absl::StrCat(Bytes<uint32_t>(9), Bytes<uint32_t>(GgufTypeNumber<T>()),
                                     Bytes<uint64_t>(values.size()));
  for (const T value : values) encoded += Bytes(value);
  return encoded;
}

std::string ArrayValue(const std::vector<std::string>& values);

}  // namespace kvec

#endif  // KVEC_TESTS_COMMON_MODEL_GGUF_WRITER_H_
