#include "common/model/json.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/model/error_text.h"

namespace kvec {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 64;

// Builds the document from the parser's events. nlohmann's own builder has no limit on depth and
// keeps the last of two equal keys.
class DocumentBuilder : public nlohmann::json_sax<json> {
 public:
  explicit DocumentBuilder(absl::string_view skip_key) : skip_key_(skip_key) {}

  bool null() override { return Insert(nullptr); }
  bool boolean(bool value) override { return Insert(value); }
  bool number_integer(number_integer_t value) override { return Insert(value); }
  bool number_unsigned(number_unsigned_t value) override { return Insert(value); }
  bool number_float(number_float_t value, const string_t&) override { return Insert(value); }
  bool string(string_t& value) override { return Insert(std::move(value)); }
  bool binary(binary_t& value) override { return Insert(std::move(value)); }
  bool start_object(std::size_t) override { return Open(json::object()); }
  bool start_array(std::size_t) override { return Open(json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& key) override {
    if (skip_depth_ > 0) return true;
    json& object = *open_.back();
    if (object.contains(key)) return Fail(absl::StrCat("key ", Quoted(key), ": is there twice"));
    skip_next_ = open_.size() == 1 && !skip_key_.empty() && key == skip_key_;
    slot_ = &object[key];
    return true;
  }

  bool parse_error(std::size_t position, const std::string& last_token,
                   const nlohmann::detail::exception&) override {
    return Fail(absl::StrCat("not JSON at byte ", position, ", near ", Quoted(last_token)));
  }

  const std::string& error() const { return error_; }
  json TakeDocument() { return std::move(document_); }

 private:
  bool Fail(std::string error) {
    error_ = std::move(error);
    return false;
  }

  // Puts a value where the document is being built: its root, an array's end, or a key's slot.
  json* Place(json value) {
    if (open_.empty()) {
      document_ = std::move(value);
      return &document_;
    }
    json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    *slot_ = std::move(value);
    return slot_;
  }

  bool Insert(json value) {
    if (skip_depth_ > 0) return true;
    if (!std::exchange(skip_next_, false)) Place(std::move(value));
    return true;
  }

  bool Open(json container) {
    if (open_.size() + skip_depth_ >= kMaxDepth) {
      return Fail(absl::StrCat("nesting: is deeper than ", kMaxDepth, " levels"));
    }
    if (skip_depth_ > 0 || std::exchange(skip_next_, false)) {
      ++skip_depth_;
      return true;
    }
    open_.push_back(Place(std::move(container)));
    return true;
  }

  bool Close() {
    if (skip_depth_ > 0) {
      --skip_depth_;
    } else {
      open_.pop_back();
    }
    return true;
  }

  const absl::string_view skip_key_;
  json document_;
  std::vector<json*> open_;  // containers not yet closed; only the last one grows
  json* slot_ = nullptr;     // of the key just read
  size_t skip_depth_ = 0;    // containers open inside the value that is not kept
  bool skip_next_ = false;
  std::string error_;
};

}  // namespace

absl::StatusOr<json> ParseJson(absl::string_view text, absl::string_view skip_key) {
  DocumentBuilder builder(skip_key);
  if (!json::sax_parse(text.begin(), text.end(), &builder)) {
    return absl::InvalidArgumentError(builder.error());
  }
  return builder.TakeDocument();
}

}  // namespace kvec
