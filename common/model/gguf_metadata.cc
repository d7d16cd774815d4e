#include "common/model/gguf_metadata.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "common/model/error_text.h"
#include "common/status_macros.h"

namespace kvec {
namespace {

absl::Status WrongType(absl::string_view key, const GgufValue& value, absl::string_view wanted) {
  return absl::InvalidArgumentError(absl::StrCat(key, ": is ",
                                                 value.is_array ? "an array of " : "a ",
                                                 GgufTypeName(value.type), ", must be ", wanted));
}

template <typename T>
T Load(const GgufValue& value) {
  T number;
  std::memcpy(&number, value.bytes.data(), sizeof(T));
  return number;
}

// The value as int64, those of uint64 beyond its range as the largest. Nothing for other types.
bool LoadInteger(const GgufValue& value, int64_t& number) {
  if (value.is_array) return false;
  switch (value.type) {
    case GgufType::kUint8:
      number = Load<uint8_t>(value);
      return true;
    case GgufType::kInt8:
      number = Load<int8_t>(value);
      return true;
    case GgufType::kUint16:
      number = Load<uint16_t>(value);
      return true;
    case GgufType::kInt16:
      number = Load<int16_t>(value);
      return true;
    case GgufType::kUint32:
      number = Load<uint32_t>(value);
      return true;
    case GgufType::kInt32:
      number = Load<int32_t>(value);
      return true;
    case GgufType::kUint64:
      number = static_cast<int64_t>(
          std::min<uint64_t>(Load<uint64_t>(value), std::numeric_limits<int64_t>::max()));
      return true;
    case GgufType::kInt64:
      number = Load<int64_t>(value);
      return true;
    default:
      return false;
  }
}

}  // namespace

absl::Status GgufMetadata::Add(absl::string_view key, const GgufValue& value) {
  if (!values_.emplace(key, value).second) {
    return absl::InvalidArgumentError(
        absl::StrCat("metadata key ", Quoted(key), ": is there twice"));
  }
  return absl::OkStatus();
}

const GgufValue* GgufMetadata::Find(absl::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

absl::StatusOr<const GgufValue*> GgufMetadata::FindOrError(absl::string_view key) const {
  if (const GgufValue* value = Find(key)) return value;
  return absl::InvalidArgumentError(absl::StrCat(key, ": metadata key is missing"));
}

absl::StatusOr<int64_t> GgufMetadata::Int(absl::string_view key, int64_t min, int64_t max) const {
  KVEC_ASSIGN_OR_RETURN(const GgufValue* value, FindOrError(key));
  int64_t number = 0;
  if (!LoadInteger(*value, number)) return WrongType(key, *value, "an integer");
  if (number < min || number > max) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, ": is ", number, ", must be in ", min, " … ", max));
  }
  return number;
}

absl::StatusOr<int64_t> GgufMetadata::IntOr(absl::string_view key, int64_t missing, int64_t min,
                                            int64_t max) const {
  if (!Has(key)) return missing;
  return Int(key, min, max);
}

absl::StatusOr<float> GgufMetadata::Float(absl::string_view key) const {
  KVEC_ASSIGN_OR_RETURN(const GgufValue* value, FindOrError(key));
  if (value->is_array || (value->type != GgufType::kFloat32 && value->type != GgufType::kFloat64)) {
    return WrongType(key, *value, "a float");
  }
  const auto number = value->type == GgufType::kFloat32 ? Load<float>(*value)
                                                        : static_cast<float>(Load<double>(*value));
  if (!std::isfinite(number)) {
    return absl::InvalidArgumentError(absl::StrCat(key, ": is ", number, ", must be finite"));
  }
  return number;
}

absl::StatusOr<float> GgufMetadata::FloatOr(absl::string_view key, float missing) const {
  if (!Has(key)) return missing;
  return Float(key);
}

absl::StatusOr<bool> GgufMetadata::BoolOr(absl::string_view key, bool missing) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return missing;
  if (value->is_array || value->type != GgufType::kBool) return WrongType(key, *value, "a bool");
  return value->bytes[0] != 0;
}

absl::StatusOr<std::string> GgufMetadata::String(absl::string_view key) const {
  KVEC_ASSIGN_OR_RETURN(const GgufValue* value, FindOrError(key));
  if (value->is_array || value->type != GgufType::kString) {
    return WrongType(key, *value, "a string");
  }
  KVEC_ASSIGN_OR_RETURN(const absl::string_view text, ByteReader(value->bytes).ReadString());
  return std::string(text);
}

absl::StatusOr<std::string> GgufMetadata::StringOr(absl::string_view key,
                                                   absl::string_view missing) const {
  if (!Has(key)) return std::string(missing);
  return String(key);
}

absl::StatusOr<const GgufValue*> GgufMetadata::FindArray(absl::string_view key, GgufType type,
                                                         uint64_t max_count) const {
  KVEC_ASSIGN_OR_RETURN(const GgufValue* value, FindOrError(key));
  if (!value->is_array || value->type != type) {
    return WrongType(key, *value, absl::StrCat("an array of ", GgufTypeName(type)));
  }
  if (value->count > max_count) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, ": has ", value->count, " elements, more than ", max_count));
  }
  return value;
}

absl::StatusOr<std::vector<std::string>> GgufMetadata::Strings(absl::string_view key,
                                                               uint64_t max_count) const {
  KVEC_ASSIGN_OR_RETURN(const GgufValue* value, FindArray(key, GgufType::kString, max_count));
  std::vector<std::string> strings;
  strings.reserve(value->count);
  ByteReader reader(value->bytes);
  for (uint64_t i = 0; i < value->count; ++i) {
    KVEC_ASSIGN_OR_RETURN(const absl::string_view text, reader.ReadString());
    strings.emplace_back(text);
  }
  return strings;
}

absl::StatusOr<std::vector<int32_t>> GgufMetadata::Int32s(absl::string_view key,
                                                          uint64_t max_count) const {
  KVEC_ASSIGN_OR_RETURN(const GgufValue* value, FindArray(key, GgufType::kInt32, max_count));
  std::vector<int32_t> numbers(value->count);
  if (!numbers.empty()) std::memcpy(numbers.data(), value->bytes.data(), value->bytes.size());
  return numbers;
}

absl::StatusOr<std::vector<float>> GgufMetadata::Float32s(absl::string_view key,
                                                          uint64_t max_count) const {
  KVEC_ASSIGN_OR_RETURN(const GgufValue* value, FindArray(key, GgufType::kFloat32, max_count));
  std::vector<float> numbers(value->count);
  if (!numbers.empty()) std::memcpy(numbers.data(), value->bytes.data(), value->bytes.size());
  return numbers;
}

}  // namespace kvec
