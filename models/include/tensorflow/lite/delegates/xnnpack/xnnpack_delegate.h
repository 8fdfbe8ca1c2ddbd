/* The XNNPACK delegate of the TensorFlow Lite C library, as far as tflitec 0.7 calls it. */
#ifndef HANDLOOM_TFLITE_XNNPACK_DELEGATE_H_
#define HANDLOOM_TFLITE_XNNPACK_DELEGATE_H_
#include "tensorflow/lite/c/c_api.h"

#define TFLITE_XNNPACK_DELEGATE_FLAG_QS8 0x00000001
#define TFLITE_XNNPACK_DELEGATE_FLAG_QU8 0x00000002

/* Returned by value through a hidden pointer: too small a declaration lets the library write past the caller's
 * struct. 2.17.1 uses 32 bytes, newer ones more, hence the tail. */
typedef struct TfLiteXNNPackDelegateOptions {
  int32_t num_threads;
  uint32_t flags;
  void* weights_cache;
  bool handle_variable_ops;
  const char* weight_cache_file_path;
  uint8_t room_for_newer_fields[96];
} TfLiteXNNPackDelegateOptions;

TfLiteXNNPackDelegateOptions TfLiteXNNPackDelegateOptionsDefault(void);
TfLiteDelegate* TfLiteXNNPackDelegateCreate(const TfLiteXNNPackDelegateOptions* options);
void TfLiteXNNPackDelegateDelete(TfLiteDelegate* delegate);
#endif
