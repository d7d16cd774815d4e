#ifndef KVEC_COMMON_VERSION_H_
#define KVEC_COMMON_VERSION_H_

#include "absl/strings/string_view.h"

namespace kvec {

// The project's version and the commit it was built from: "0.1.0+3f2a91c"; "0.1.0" alone outside a
// git checkout. A coordinator refuses workers of another version.
absl::string_view Version();

}  // namespace kvec

#endif  // KVEC_COMMON_VERSION_H_
