#ifndef KVEC_COMMON_MODEL_JSON_FIELDS_H_
#define KVEC_COMMON_MODEL_JSON_FIELDS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace kvec {

// Checked access to the fields of a JSON object, which must outlive it. A null counts as missing.
//
// Of each getter: the plain one wants the field to exist, the one with `Or` has a default. A value
// of another type or out of range is INVALID_ARGUMENT naming field and value.
class JsonFields {
 public:
  // INVALID_ARGUMENT when `value` is no object. `context` goes before a field's name in messages:
  // "rope_scaling.", or nothing.
  static absl::StatusOr<JsonFields> Of(const nlohmann::json& value, absl::string_view context);

  // nullptr when missing.
  const nlohmann::json* Find(absl::string_view field) const;
  bool Has(absl::string_view field) const { return Find(field) != nullptr; }
  bool IsNull(absl::string_view field) const;

  absl::StatusOr<JsonFields> Object(absl::string_view field) const;
  absl::StatusOr<int64_t> Int(absl::string_view field, int64_t min, int64_t max) const;
  absl::StatusOr<int64_t> IntOr(absl::string_view field, int64_t missing, int64_t min,
                                int64_t max) const;
  absl::StatusOr<float> Float(absl::string_view field) const;  // finite
  absl::StatusOr<float> FloatOr(absl::string_view field, float missing) const;
  absl::StatusOr<bool> BoolOr(absl::string_view field, bool missing) const;
  absl::StatusOr<std::string> String(absl::string_view field) const;
  absl::StatusOr<std::string> StringOr(absl::string_view field, absl::string_view missing) const;

  // "rope_scaling.factor"
  std::string Name(absl::string_view field) const;
  // INVALID_ARGUMENT: the field is `value`, must be `wanted`.
  absl::Status WrongValue(absl::string_view field, const nlohmann::json& value,
                          absl::string_view wanted) const;

 private:
  JsonFields(const nlohmann::json& object, absl::string_view context)
      : object_(&object), context_(context) {}
  absl::StatusOr<const nlohmann::json*> FindOrError(absl::string_view field) const;

  const nlohmann::json* object_;
  std::string context_;
};

// `value` as int64, clamped to its range; false when it is no integer.
bool LoadInteger(const nlohmann::json& value, int64_t& number);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_JSON_FIELDS_H_
