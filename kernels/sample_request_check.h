#ifndef KVEC_KERNELS_SAMPLE_REQUEST_CHECK_H_
#define KVEC_KERNELS_SAMPLE_REQUEST_CHECK_H_

#include "absl/status/status.h"
#include "kernels/sampling.h"

namespace kvec::kernels {

// INVALID_ARGUMENT, naming field and value, for a row that logits[num_rows, vocab_size] has not, a
// token outside the vocabulary, or parameters that give no probabilities.
absl::Status CheckSampleRequest(const SampleRequest& request, int num_rows, int vocab_size);

}  // namespace kvec::kernels

#endif  // KVEC_KERNELS_SAMPLE_REQUEST_CHECK_H_
