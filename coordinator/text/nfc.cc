#include "coordinator/text/nfc.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/utf8.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace kvec::coordinator::text {
namespace {

constexpr int kMaxMarks = 1000;

absl::Status CheckCombiningMarks(const icu::Normalizer2& nfc, absl::string_view text) {
  int num_marks = 0;
  const auto size = static_cast<int32_t>(text.size());
  for (int32_t i = 0; i < size;) {
    UChar32 character = 0;
    const int32_t begin = i;
    U8_NEXT_UNSAFE(text.data(), i, character);
    // The first combining mark is U+0300.
    num_marks = character >= 0x300 && nfc.getCombiningClass(character) != 0 ? num_marks + 1 : 0;
    if (num_marks > kMaxMarks) {
      return absl::InvalidArgumentError(
          absl::StrCat("text: more than ", kMaxMarks, " combining marks in a row at byte ", begin));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> NormalizeNfc(absl::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(error);
  if (U_FAILURE(error)) return absl::InternalError(absl::StrCat("ICU: ", u_errorName(error)));
  if (const absl::Status status = CheckCombiningMarks(*nfc, text); !status.ok()) return status;
  std::string result;
  icu::StringByteSink<std::string> sink(&result, static_cast<int32_t>(text.size()));
  nfc->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink,
                     nullptr, error);
  if (U_FAILURE(error)) return absl::InternalError(absl::StrCat("ICU: ", u_errorName(error)));
  return result;
}

}  // namespace kvec::coordinator::text
