#ifndef KVEC_COMMON_MODEL_GGUF_METADATA_H_
#define KVEC_COMMON_MODEL_GGUF_METADATA_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/model/gguf_value.h"

namespace kvec {

// The keys and values of a GGUF file, decoded when asked for. Views of the file; immutable once
// filled.
//
// Of each getter: the plain one wants the key to exist, the one with `Or` has a default for a
// missing key. A value of another type or out of range is INVALID_ARGUMENT naming key and value.
class GgufMetadata {
 public:
  // INVALID_ARGUMENT for a key that is there already.
  absl::Status Add(absl::string_view key, const GgufValue& value);

  bool Has(absl::string_view key) const { return values_.contains(key); }
  // nullptr when there is none.
  const GgufValue* Find(absl::string_view key) const;

  // Any integer type; the bounds are inclusive.
  absl::StatusOr<int64_t> Int(absl::string_view key, int64_t min, int64_t max) const;
  absl::StatusOr<int64_t> IntOr(absl::string_view key, int64_t missing, int64_t min,
                                int64_t max) const;
  // float32 or float64; finite.
  absl::StatusOr<float> Float(absl::string_view key) const;
  absl::StatusOr<float> FloatOr(absl::string_view key, float missing) const;
  absl::StatusOr<bool> BoolOr(absl::string_view key, bool missing) const;
  absl::StatusOr<std::string> String(absl::string_view key) const;
  absl::StatusOr<std::string> StringOr(absl::string_view key, absl::string_view missing) const;

  // Arrays of at most `max_count` elements, of exactly the type named.
  absl::StatusOr<std::vector<std::string>> Strings(absl::string_view key, uint64_t max_count) const;
  absl::StatusOr<std::vector<int32_t>> Int32s(absl::string_view key, uint64_t max_count) const;
  absl::StatusOr<std::vector<float>> Float32s(absl::string_view key, uint64_t max_count) const;

 private:
  absl::StatusOr<const GgufValue*> FindOrError(absl::string_view key) const;
  absl::StatusOr<const GgufValue*> FindArray(absl::string_view key, GgufType type,
                                             uint64_t max_count) const;

  absl::flat_hash_map<absl::string_view, GgufValue> values_;
};

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_GGUF_METADATA_H_
