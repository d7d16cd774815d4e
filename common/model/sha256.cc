#include "common/model/sha256.h"

#include "absl/strings/escaping.h"
#include "common/logging.h"

namespace kvec {

// OpenSSL's digest calls fail only when its library is broken or memory is out.
Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  CHECK_EQ(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr), 1);
}

void Sha256::Add(absl::Span<const uint8_t> field) {
  const uint64_t size = field.size();
  CHECK_EQ(EVP_DigestUpdate(context_.get(), &size, sizeof(size)), 1);
  CHECK_EQ(EVP_DigestUpdate(context_.get(), field.data(), field.size()), 1);
}

void Sha256::Add(absl::string_view field) {
  Add(absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(field.data()), field.size()));
}

std::string Sha256::Finish() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  CHECK_EQ(EVP_DigestFinal_ex(context_.get(), digest, &size), 1);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), size));
}

}  // namespace kvec
