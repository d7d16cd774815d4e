#include "common/model/json_fields.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/model/error_text.h"
#include "common/status_macros.h"

namespace kvec {
namespace {

using nlohmann::json;

// Short text for a message; containers are named by their type only, as they may be large.
std::string ValueText(const json& value) {
  if (value.is_string()) return Quoted(value.get_ref<const std::string&>());
  if (value.is_structured()) return absl::StrCat("an ", value.type_name());
  return value.dump();
}

}  // namespace

bool LoadInteger(const json& value, int64_t& number) {
  if (value.is_number_unsigned()) {
    number = static_cast<int64_t>(
        std::min<uint64_t>(value.get<uint64_t>(), std::numeric_limits<int64_t>::max()));
    return true;
  }
  if (!value.is_number_integer()) return false;
  number = value.get<int64_t>();
  return true;
}

absl::StatusOr<JsonFields> JsonFields::Of(const json& value, absl::string_view context) {
  if (!value.is_object()) {
    absl::string_view what = context;
    if (!absl::ConsumeSuffix(&what, " ")) absl::ConsumeSuffix(&what, ".");
    return absl::InvalidArgumentError(absl::StrCat(what, what.empty() ? "" : " ", "is ",
                                                   ValueText(value), ", must be an object"));
  }
  return JsonFields(value, context);
}

const json* JsonFields::Find(absl::string_view field) const {
  const auto it = object_->find(std::string(field));
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

bool JsonFields::IsNull(absl::string_view field) const {
  const auto it = object_->find(std::string(field));
  return it != object_->end() && it->is_null();
}

absl::StatusOr<const json*> JsonFields::FindOrError(absl::string_view field) const {
  if (const json* value = Find(field)) return value;
  return absl::InvalidArgumentError(absl::StrCat(Name(field), ": is missing"));
}

std::string JsonFields::Name(absl::string_view field) const {
  return absl::StrCat(context_, field);
}

absl::Status JsonFields::WrongValue(absl::string_view field, const json& value,
                                    absl::string_view wanted) const {
  return absl::InvalidArgumentError(
      absl::StrCat(Name(field), ": is ", ValueText(value), ", must be ", wanted));
}

absl::StatusOr<JsonFields> JsonFields::Object(absl::string_view field) const {
  KVEC_ASSIGN_OR_RETURN(const json* value, FindOrError(field));
  if (!value->is_object()) return WrongValue(field, *value, "an object");
  return JsonFields(*value, absl::StrCat(Name(field), "."));
}

absl::StatusOr<int64_t> JsonFields::Int(absl::string_view field, int64_t min, int64_t max) const {
  KVEC_ASSIGN_OR_RETURN(const json* value, FindOrError(field));
  int64_t number = 0;
  if (!LoadInteger(*value, number) || number < min || number > max) {
    return WrongValue(field, *value, absl::StrCat("an integer in ", min, " … ", max));
  }
  return number;
}

absl::StatusOr<int64_t> JsonFields::IntOr(absl::string_view field, int64_t missing, int64_t min,
                                          int64_t max) const {
  if (!Has(field)) return missing;
  return Int(field, min, max);
}

absl::StatusOr<float> JsonFields::Float(absl::string_view field) const {
  KVEC_ASSIGN_OR_RETURN(const json* value, FindOrError(field));
  if (!value->is_number()) return WrongValue(field, *value, "a number");
  // A double beyond float's range would be undefined to convert.
  const auto number = value->get<double>();
  if (!(std::abs(number) <= std::numeric_limits<float>::max())) {
    return WrongValue(field, *value, "a number in the range of float");
  }
  return static_cast<float>(number);
}

absl::StatusOr<float> JsonFields::FloatOr(absl::string_view field, float missing) const {
  if (!Has(field)) return missing;
  return Float(field);
}

absl::StatusOr<bool> JsonFields::BoolOr(absl::string_view field, bool missing) const {
  const json* value = Find(field);
  if (value == nullptr) return missing;
  if (!value->is_boolean()) return WrongValue(field, *value, "true or false");
  return value->get<bool>();
}

absl::StatusOr<std::string> JsonFields::String(absl::string_view field) const {
  KVEC_ASSIGN_OR_RETURN(const json* value, FindOrError(field));
  if (!value->is_string()) return WrongValue(field, *value, "a string");
  return value->get<std::string>();
}

absl::StatusOr<std::string> JsonFields::StringOr(absl::string_view field,
                                                 absl::string_view missing) const {
  if (!Has(field)) return std::string(missing);
  return String(field);
}

}  // namespace kvec
