#ifndef KVEC_COMMON_MODEL_SHA256_H_
#define KVEC_COMMON_MODEL_SHA256_H_

#include <openssl/evp.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace kvec {

// A SHA-256 digest over a series of fields. Each field is preceded by its length, so that moving
// bytes from one field to the next changes the digest.
class Sha256 {
 public:
  Sha256();

  void Add(absl::Span<const uint8_t> field);
  void Add(absl::string_view field);

  // The digest in hex. Ends the object's use.
  std::string Finish();

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_SHA256_H_
